"""The studies: which trials each of them is made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from thfr.config import RunConfig
from thfr.data import categories, fingerprint, load_dataset
from thfr.errors import InputError
from thfr.io import file_sha256
from thfr.methods.thfr.config import THFRConfig
from thfr.study.presets import changed
from thfr.study.trials import Evaluation, Trial

CHANNELS = (64, 128, 256, 512, 1024, 2048, 4096)
RATIOS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
METHODS = ("random", "coreset")
COMPENSATION = ((1, 2, 3), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3))

Setting = tuple[dict[str, Any], RunConfig]
"""What is varied, by the name it is reported under, and the configuration that results."""


@dataclass(frozen=True)
class Category:
    """One category a study runs on, and the configuration it starts from."""

    dataset: str
    name: str
    data: dict[str, Any]
    """:func:`thfr.data.fingerprint`."""
    config: RunConfig


def find_categories(dataset: str, root: Path, names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The categories of a study, all those in ``root`` if none is named, with their fingerprints.

    Raises:
        InputError: what :func:`thfr.data.load_dataset` rejects, or a category without test images.
    """
    wanted: Sequence[str | None] = names or (categories(root, dataset) if root.is_dir() else []) or [None]
    found = []
    for name in wanted:
        opened = load_dataset(dataset, root, name)
        if not any(sample.is_anomalous for sample in opened.test):
            raise InputError(f"study: {opened.folder} has no anomalous test images")
        found.append((opened.category, fingerprint(opened, progress=True)))
    return found


def make_trials(
    category: Category,
    settings: Iterable[Setting],
    seeds: Sequence[int],
    weights: Path | None,
    evaluations: tuple[Evaluation, ...] | None = None,
) -> list[Trial]:
    """A trial for every setting and seed. ``evaluations``: by default the plain one and, of THFR where it has
    templates, the control with random ones."""
    digest = None if weights is None else file_sha256(weights)
    control = (Evaluation(), Evaluation(templates="random"))
    return [
        Trial(
            category.dataset,
            category.name,
            setting,
            changed(config, {"training": {"seed": seed}}, "seeds"),
            evaluations or (control if _has_control(config) else control[:1]),
            category.data,
            digest,
        )
        for seed in seeds
        for setting, config in settings
    ]


def _has_control(config: RunConfig) -> bool:
    return isinstance(config, THFRConfig) and config.model.uses_templates


def bottleneck(config: RunConfig, channels: Sequence[int] = CHANNELS) -> list[Setting]:
    """The width of the global bottleneck (supplement, section 3.1 and Figure 1)."""
    return grid(config, {"model.bottleneck_channels": list(channels)})


def template_evaluations(ratios: Sequence[float] = RATIOS) -> tuple[Evaluation, ...]:
    """The whole bank, its subsets by both methods, and the control (supplement, section 3.2 and Figure 2)."""
    wrong = [ratio for ratio in ratios if not 0 < ratio <= 1]
    if wrong:
        raise InputError(f"ablate: ratios must be in (0, 1], got {wrong[0]}")
    subsets = [
        Evaluation("nearest", r, m) for r in sorted(set(ratios) - {1.0}, reverse=True) for m in METHODS
    ]
    return (Evaluation(), *subsets, Evaluation(templates="random"))


def templates(config: RunConfig) -> list[Setting]:
    """One training; only its bank is subsampled afterwards.

    Raises:
        InputError: the configuration has no templates, or keeps only some of them already.
    """
    if not isinstance(config, THFRConfig) or not config.model.uses_templates:
        raise InputError(f"ablate: templates: {config.label} has no templates")
    if config.model.bank_ratio != 1:
        raise InputError(f"ablate: templates: model.bank_ratio must be 1, got {config.model.bank_ratio}")
    return [({}, config)]


def structure(config: RunConfig) -> list[Setting]:
    """The bottlenecks alone and together, and compensation at every set of levels (supplement, 3.3).

    ``gl`` is thfr without compensation, the same network, so it is there once.
    """
    plain: dict[str, dict[str, Any]] = {variant: {"variant": variant} for variant in ("gbn", "lbn", "gl")}
    compensated = {
        _structure_name(levels): {"variant": "thfr", "compensation_levels": list(levels)}
        for levels in COMPENSATION
    }
    return [
        ({"structure": name}, changed(config, {"model": fields}, "structure"))
        for name, fields in (plain | compensated).items()
    ]


def _structure_name(levels: tuple[int, ...]) -> str:
    if len(levels) == 3:
        return "thfr"
    return f"thfr, level{'s' if len(levels) > 1 else ''} {'+'.join(map(str, levels))}"


def grid(config: RunConfig, values: dict[str, list[Any]]) -> list[Setting]:
    """The cartesian product of values of any fields, by dotted names such as ``model.local_reduction``.

    Raises:
        InputError: an unknown field, a value it does not take, or ``training.seed``.
    """
    if "training.seed" in values:
        raise InputError("ablate: training.seed cannot be a factor, every trial has several: give --seeds")
    settings = []
    for combination in itertools.product(*values.values()):
        sections: dict[str, Any] = {}
        for name, value in zip(values, combination, strict=True):
            section, _, field = name.partition(".")
            sections.setdefault(section, {})[field] = value
        result = changed(config, sections, "values")
        plain = result.model_dump(mode="json")
        # the values as the configuration understood them: 1e-3, which YAML takes for text, is a number there
        setting = {name: plain[name.partition(".")[0]][name.partition(".")[2]] for name in values}
        settings.append((setting, result))
    return settings


def parse_values(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``["model.size=128,256", ...]`` as names and lists of YAML values.

    Raises:
        InputError: a text that is not NAME=VALUE[,VALUE...], or a name that comes twice.
    """
    parsed: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        try:
            found = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError as error:
            raise InputError(f"ablate: set: the values in {text!r} are not YAML: {error}") from error
        if not equals or not found:
            raise InputError(f"ablate: set: expected NAME=VALUE[,VALUE...], got {text!r}")
        if name in parsed:
            raise InputError(f"ablate: set: {name} is given twice")
        parsed[name] = found
    return parsed
