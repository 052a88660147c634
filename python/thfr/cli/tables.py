"""``thfr tables``: results beside the published ones, from finished runs or straight from the data."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command, add_study_settings, existing_folder, existing_path
from thfr.cli.output import Result
from thfr.data.registry import dataset_names

_DESCRIPTION = """\
Tables of results beside those that the supplement of the paper prints: OUT/tables.md, .tex, .csv and .json.

  thfr tables runs --out OUT                                   from evaluated runs and trials of `thfr ablate`
  thfr tables --train ROOT --dataset mvtec_loco --out OUT      train and evaluate everything first

With --train every category and seed is trained in the data set's pinned configuration, as a trial in
OUT/trials (see `thfr ablate`): the same command is resumed after an interruption. What is missing shows as
"-", and a mean over some categories is not shown at all.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "tables", run, help="results beside the published ones", description=_DESCRIPTION
    )
    parser.add_argument(
        "folders", metavar="DIR", nargs="*", type=existing_folder, default=[],
        help="folders in and below which finished runs and trials are",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for the tables")
    parser.add_argument(
        "--published", nargs="*", metavar="NAME", help="methods to show published figures of (default: all)"
    )
    parser.add_argument(
        "--note", action="append", default=[], metavar="TEXT", help="a footnote to add; may be repeated"
    )
    training = parser.add_argument_group("train first, with the pinned configuration")
    training.add_argument(
        "--train", type=existing_path, metavar="ROOT", dest="data", help="folder of the data set"
    )
    training.add_argument("--dataset", choices=dataset_names(), help="layout and protocol")
    add_study_settings(training)
    parser.set_defaults(only_training=[action.dest for action in training._group_actions])


def run(args: argparse.Namespace) -> Result:
    from thfr.cli.study import study_result
    from thfr.study.render import as_markdown, as_values, write_tables
    from thfr.study.results import find_results
    from thfr.study.tables import make_tables

    _check_usage(args)
    published = _published(args)
    failed: dict[str, str] = {}
    folders = list(args.folders)
    if args.data is not None:
        failed = _train(args)
        folders.append(args.out)
    tables = make_tables(find_results(folders), published, args.note)
    paths = write_tables(tables, args.out)
    values = {**as_values(tables), "failed": failed, "files": [str(path) for path in paths]}
    return study_result(as_markdown(tables), values)


def _check_usage(args: argparse.Namespace) -> None:
    if args.data is not None:
        if args.dataset is None:
            args.parser.error("--train also needs --dataset")
        return
    if not args.folders:
        args.parser.error("give folders with results, or --train ROOT")
    for name in args.only_training:
        if getattr(args, name) != args.parser.get_default(name):
            args.parser.error(f"--{name.replace('_', '-')}: only with --train")


def _published(args: argparse.Namespace) -> list[str]:
    from thfr.errors import InputError
    from thfr.study.published import methods

    if args.published is None:
        return methods()
    unknown = [name for name in args.published if name not in methods()]
    if unknown:
        raise InputError(f"tables: published: no figures of {unknown[0]!r}; there are {', '.join(methods())}")
    return list(args.published)


def _train(args: argparse.Namespace) -> dict[str, str]:
    """Run the trials of the pinned configuration; the reasons of those that fail."""
    from thfr.cli.study import chosen_categories, chosen_seeds, chosen_workspace, preset_setting
    from thfr.study.grids import make_trials
    from thfr.study.runner import run_trials
    from thfr.study.trials import Evaluation

    setting = preset_setting(args)
    trials = [
        trial
        for category in chosen_categories(args)
        for trial in make_trials(
            category, [(setting, category.config)], chosen_seeds(args), args.weights, (Evaluation(),)
        )
    ]
    return run_trials(trials, chosen_workspace(args)).failed
