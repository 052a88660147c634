"""``thfr ablate``: the supplement's ablations, and any other."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thfr.cli.arguments import Commands, add_command, add_study, positive
from thfr.cli.output import Result

if TYPE_CHECKING:
    from thfr.study.grids import Category
    from thfr.study.trials import Trial

_DESCRIPTION = """\
Train and evaluate a grid of settings with several seeds; write mean and standard deviation as CSV and JSON,
and figures as PDF and PNG.

  thfr ablate bottleneck --dataset mvtec_loco --data ROOT --out OUT    width of the global bottleneck
  thfr ablate templates  --dataset mvtec_loco --data ROOT --out OUT    size of the template bank
  thfr ablate structure  --dataset mvtec_loco --data ROOT --out OUT    bottlenecks, levels of compensation
  thfr ablate grid --set model.local_reduction=8,16,32 --set training.corruption=true,false ...

Every training with its evaluations is a trial: a process of its own and one file in OUT/trials. The same
command is resumed after an interruption, inside a training too, and repeats no finished trial. A trial that
fails is named with its reason and the others are run; the exit code is then 1.
"""
_SETTINGS = """\
What is not varied comes from the data set's pinned configuration (python/thfr/study/presets), unless an
option says otherwise.
"""


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "ablate",
        help="grids of trainings with seeds: tables and figures",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    studies = parser.add_subparsers(title="studies", dest="study", metavar="STUDY", required=True)
    one = _add_study(studies, "bottleneck", "width of the global bottleneck (supplement, Figure 1)")
    one.add_argument(
        "--channels", type=positive, nargs="+", metavar="N", default=None,
        help="channels of the global bottleneck (default: 64 to 4096, doubling)",
    )  # fmt: skip
    one = _add_study(studies, "templates", "size of the template bank (supplement, Figure 2)")
    one.add_argument(
        "--ratios", type=float, nargs="+", metavar="R", default=None,
        help="shares of the bank that are kept, in (0, 1] (default: 1 to 0.01)",
    )  # fmt: skip
    _add_study(studies, "structure", "bottlenecks and levels of compensation (supplement, section 3.3)")
    one = _add_study(studies, "grid", "any fields of the configuration over any values")
    one.add_argument(
        "--set", action="append", required=True, metavar="NAME=VALUE[,VALUE...]", dest="values",
        help="a field of config.yaml by its dotted name, and YAML values; several make a product",
    )  # fmt: skip


def _add_study(studies: Commands, name: str, what: str) -> argparse.ArgumentParser:
    parser = add_command(
        studies, name, run, help=what, description=f"{what[0].upper()}{what[1:]}.\n\n{_SETTINGS}"
    )
    add_study(parser)
    return parser


def run(args: argparse.Namespace) -> Result:
    from thfr.cli.study import chosen_categories, chosen_workspace, study_result
    from thfr.study.report import write_report
    from thfr.study.runner import run_trials
    from thfr.study.summary import as_text

    trials = [trial for category in chosen_categories(args) for trial in _trials(args, category)]
    outcome = run_trials(trials, chosen_workspace(args))
    report = write_report(args.study, outcome, args.out)
    return study_result(as_text(report["rows"]) if report["rows"] else "", report)


def _trials(args: argparse.Namespace, category: Category) -> list[Trial]:
    from thfr.cli.study import chosen_seeds
    from thfr.study import grids

    evaluations = None
    if args.study == "bottleneck":
        settings = grids.bottleneck(category.config, args.channels or grids.CHANNELS)
    elif args.study == "templates":
        settings = grids.templates(category.config)
        evaluations = grids.template_evaluations(args.ratios or grids.RATIOS)
    elif args.study == "structure":
        settings = grids.structure(category.config)
    else:
        settings = grids.grid(category.config, grids.parse_values(args.values))
    return grids.make_trials(category, settings, chosen_seeds(args), args.weights, evaluations)
