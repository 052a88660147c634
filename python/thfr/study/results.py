"""Finished results, of runs and of trials, wherever they lie, and what of their data is not official."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.methods.registry import config_from_values, read_config
from thfr.runs import files
from thfr.runs.json_file import read_object
from thfr.study.published import official_metadata
from thfr.study.summary import figures
from thfr.study.trials import OLD_TRIALS, TRIALS, Evaluation, read_trial


@dataclass(frozen=True)
class Result:
    """One trained and evaluated detector."""

    source: Path
    dataset: str
    category: str
    config: RunConfig
    row: str
    """Equal for results that belong in one row of a table: the same configuration but for the seed."""
    figures: dict[str, float | None]
    data: dict[str, Any]
    """:func:`thfr.data.fingerprint`."""

    @property
    def seed(self) -> int:
        return self.config.training.seed


def find_results(folders: Sequence[Path]) -> list[Result]:
    """All finished runs (``config.yaml``, ``run.json``, ``metrics.json``) and trials in and below
    ``folders``.

    Raises:
        InputError: there is none; one cannot be read; two of the same configuration, category and seed.
    """
    found: dict[tuple[str, str, str, int], Result] = {}
    for folder in folders:
        for result in _results_below(folder):
            key = (result.row, result.dataset, result.category, result.seed)
            twin = found.setdefault(key, result)
            if twin.source.resolve() != result.source.resolve():
                raise InputError(
                    f"tables: two results of the same configuration, category and seed: {twin.source} and "
                    f"{result.source}"
                )
    if not found:
        listed = ", ".join(map(str, folders)) or "no folder"
        raise InputError(f"tables: no finished run (with {files.METRICS}) and no trial in {listed}")
    return list(found.values())


def _results_below(folder: Path) -> list[Result]:
    results = [_of_run(path.parent) for path in sorted(folder.rglob(files.METRICS)) if _is_run(path.parent)]
    trials = [path for path in sorted(folder.rglob("*.json")) if path.parent.name in (TRIALS, OLD_TRIALS)]
    return results + [result for path in trials if (result := _of_trial(path)) is not None]


def _is_run(folder: Path) -> bool:
    return (folder / files.CONFIG).is_file() and (folder / files.RUN).is_file()


def _of_run(folder: Path) -> Result:
    path = folder / files.METRICS
    try:
        metrics = read_object(path, "tables")
        if "categories" in metrics:
            raise InputError(
                f"tables: {folder}: expected a run on one category, got one on {metrics['category']}"
            )
        data = metrics["data"]
        found = figures(metrics)
        dataset, category = metrics["dataset"], metrics["category"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"tables: {path} is not what `thfr evaluate {folder}` writes ({type(error).__name__}: {error}); "
            "evaluate the run again"
        ) from error
    config = read_config(folder / files.CONFIG)
    return Result(path, dataset, category, config, configuration_key(config), found, data)


def _of_trial(path: Path) -> Result | None:
    """None if the trial holds no evaluation as ``thfr evaluate RUN`` makes it."""
    trial = read_trial(path)
    for one in trial["results"]:
        if Evaluation(**one["evaluation"]).is_plain:
            config = config_from_values(trial["trained"], str(path))
            # a preset may differ between categories, which are one row all the same
            row = trial["setting"].get("preset") or configuration_key(config)
            found = figures(one["metrics"])
            return Result(path, trial["dataset"], trial["category"], config, row, found, trial["data"])
    return None


def configuration_key(config: RunConfig) -> str:
    """Equal for configurations that differ in seed and data only."""
    values = config.model_dump(mode="json", exclude={"dataset": True, "training": {"seed"}})
    if not config.uses_backbone:
        values["weights_digest"] = values["model"]["backbone"] = None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def unofficial(result: Result) -> list[str]:
    """In which ways the data differ from the official category, as far as that is known."""
    official = official_metadata(result.dataset, result.category)
    problems = []
    for split in ("train", "validation", "test"):
        count = sum(result.data.get(split, {}).get("images", {}).values())
        if split in official and count != official[split]:
            problems.append(f"{count} instead of {official[split]} {split} images")
    sizes = sorted({size for split in result.data.values() for size in split["sizes"]})
    if "size" in official and sizes != [official["size"]]:
        problems.append(f"images of {', '.join(sizes)} instead of {official['size']} pixels")
    return problems


def is_checked(result: Result) -> bool:
    """Whether the official number of test images is known."""
    return "test" in official_metadata(result.dataset, result.category)
