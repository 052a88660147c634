"""``thfr compare``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thfr.cli.arguments import (
    SIZE_HELP,
    Commands,
    add_command,
    add_device,
    add_ray,
    add_tiles,
    existing_file,
    geometry,
    input_size,
    not_negative,
    positive,
)
from thfr.cli.output import Result
from thfr.data.registry import dataset_names
from thfr.methods.registry import method_names

_DESCRIPTION = """\
Fit and evaluate every method on the same data, split, backbone and metrics, and lay the figures, times and
memory side by side: OUT/comparison.md, .csv and .json.

  thfr compare --data mvtec_ad=ROOT mvtec_loco=ROOT --backbone resnet18=FILE tf_efficientnet_lite0 --out OUT

Every fitting with its evaluation is a trial (see `thfr ablate`): the same command is resumed after an
interruption and repeats no finished trial. `thfr tables OUT` puts them beside the published figures.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "compare", run, help="every method on the same data", description=_DESCRIPTION
    )
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="DATASET=ROOT",
        help=f"a data set ({', '.join(dataset_names())}) and its folder; several may be given",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for trials and tables")
    parser.add_argument(
        "--category", nargs="+", metavar="NAME", default=[], help="folders in the ROOTs (default: all)"
    )
    methods = method_names()
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=methods,
        metavar="NAME",
        default=list(methods),
        help=f"of {', '.join(methods)} (default: all)",
    )
    parser.add_argument(
        "--backbone", nargs="+", metavar="NAME[=FILE]", default=["wide_resnet50_2"],
        help="extractors, each with its weights if they are in a file",
    )  # fmt: skip
    parser.add_argument(
        "--budget", choices=("paper", "cpu"), default="paper",
        help="paper: the defaults of each method's paper; cpu: fewer steps and narrower networks for those "
        "that would take hours without a GPU (python/thfr/study/presets/methods_cpu)",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=existing_file, metavar="FILE",
        help="YAML of fields to change, by method, as in `rd4ad: {training: {epochs: 10}}`",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=input_size, metavar="SIZE", help=f"{SIZE_HELP} (default: each backbone's)"
    )
    add_tiles(parser)
    parser.add_argument("--seeds", type=not_negative, nargs="+", metavar="N", default=[0], help="seeds")
    parser.add_argument(
        "--shots", type=positive, nargs="+", metavar="K", default=[],
        help="few-shot: learn from K of the training images only, drawn by the seed; several make a row each",
    )  # fmt: skip
    parser.add_argument("--keep-runs", action="store_true", help="keep the fitted runs, OUT/runs")
    add_ray(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.cli.study import study_result
    from thfr.study.comparison import as_markdown, comparison_trials, read_method_changes, write_comparison
    from thfr.study.runner import Outcome, Workspace, run_trials

    backbones = _pairs(args, "--backbone", args.backbone)
    for name, given in backbones.items():
        if "+" in name and given is not None:
            args.parser.error(f"--backbone: joined ones take files in thfr train only: {name}={given}")
    found = _categories(args)
    changes = {} if args.config is None else read_method_changes(args.config)
    finished: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for number, (backbone, file) in enumerate(backbones.items()):
        weights = None if file is None else Path(file)
        for root, categories in found.items():
            trials = comparison_trials(
                categories,
                args.methods,
                backbone,
                weights,
                budget=args.budget,
                geometry=geometry(args),
                changes=changes,
                seeds=list(dict.fromkeys(args.seeds)),
                first=number == 0,
                shots=list(dict.fromkeys(args.shots)),
            )
            workspace = Workspace(root, args.out, weights, args.device, args.keep_runs, args.ray)
            outcome = run_trials(trials, workspace, f"{backbone}, {root.name}: ")
            finished += outcome.finished
            failed |= outcome.failed
    report = write_comparison(Outcome(finished, failed), args.out)
    return study_result(as_markdown(report["rows"]), report)


def _categories(args: argparse.Namespace) -> dict[Path, list[tuple[str, str, dict[str, Any]]]]:
    """Data set, name and fingerprint of the categories asked for, by the folder they are in."""
    from thfr.data import categories
    from thfr.study.grids import find_categories

    found: dict[Path, list[tuple[str, str, dict[str, Any]]]] = {}
    for dataset, folder in _pairs(args, "--data", args.data).items():
        if dataset not in dataset_names() or folder is None:
            expected = "DATASET=ROOT with a data set of " + ", ".join(dataset_names())
            args.parser.error(f"--data: expected {expected}, got {dataset}={folder}")
        root = Path(str(folder))
        found_in = categories(root, dataset) if root.is_dir() else [root.name]
        here = [name for name in args.category if name in found_in]
        if here or not args.category:
            found[root] = [(dataset, *one) for one in find_categories(dataset, root, here)]
    missing = set(args.category) - {name for entries in found.values() for _, name, _ in entries}
    if missing:
        args.parser.error(f"--category: none of the folders holds {', '.join(sorted(missing))}")
    return found


def _pairs(args: argparse.Namespace, option: str, texts: Sequence[str]) -> dict[str, str | None]:
    """``NAME=VALUE`` or ``NAME`` (None), each name once."""
    pairs: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name in pairs or (equals and not value):
            args.parser.error(f"{option}: {'given twice' if name in pairs else 'nothing behind ='}: {text}")
        pairs[name] = value if equals else None
    return pairs
