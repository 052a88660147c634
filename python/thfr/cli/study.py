"""What ``thfr ablate`` and ``thfr tables`` make of their options."""

from __future__ import annotations

import argparse
from typing import Any

from thfr.backbones.specs import backbone_spec
from thfr.cli.output import Result
from thfr.config import RunConfig, read_yaml
from thfr.io import file_sha256
from thfr.study.grids import Category, find_categories
from thfr.study.presets import changed, load_preset
from thfr.study.results import configuration_key
from thfr.study.runner import Workspace


def chosen_categories(args: argparse.Namespace) -> list[Category]:
    """The categories asked for, each with the configuration it starts from."""
    preset = load_preset(args.dataset)
    changes = read_yaml(args.config) if args.config is not None else {}
    return [
        Category(args.dataset, name, data, _configured(preset.config(name), args, changes))
        for name, data in find_categories(args.dataset, args.data, args.category)
    ]


def preset_setting(args: argparse.Namespace) -> dict[str, str]:
    """Names the pinned configuration with the changes asked for: equal for all its categories, which may
    differ in single fields."""
    changes = read_yaml(args.config) if args.config is not None else {}
    default = _configured(load_preset(args.dataset).default, args, changes)
    weights = "" if args.weights is None else f"-{file_sha256(args.weights)[:10]}"
    return {"preset": f"{args.dataset}-{configuration_key(default)}{weights}"}


def _configured(pinned: RunConfig, args: argparse.Namespace, changes: dict[str, Any]) -> RunConfig:
    model: dict[str, Any] = {}
    if args.backbone is not None and args.backbone != pinned.model.backbone:
        # a width pinned for one backbone says nothing about another, which has its own default
        model = {"backbone": args.backbone, "bottleneck_channels": None}
        if any(edge % backbone_spec(args.backbone).multiple for edge in pinned.model.size):
            model["size"] = None
    if args.size is not None:
        model["size"] = args.size
    training = {} if args.epochs is None else {"epochs": args.epochs, "min_steps": 0}
    options = changed(pinned, {"model": model, "training": training}, "options")
    return changed(options, changes, str(args.config))


def chosen_seeds(args: argparse.Namespace) -> list[int]:
    """The seeds asked for, or the preset's; each once."""
    return list(dict.fromkeys(args.seeds or load_preset(args.dataset).seeds))


def chosen_workspace(args: argparse.Namespace) -> Workspace:
    """Where the trials are run."""
    return Workspace(args.data, args.out, args.weights, args.device, args.keep_runs, args.ray)


def study_result(shown: str, report: dict[str, Any]) -> Result:
    """What a study found: ``shown``, the trials that failed, the files that were written."""
    lines = [shown] if shown else []
    lines += [f"failed: {name}: {reason}" for name, reason in report["failed"].items()]
    lines += [f"written: {path}" for path in report["files"]]
    return Result("\n".join(lines), report, exit_code=1 if report["failed"] else 0)
