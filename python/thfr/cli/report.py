"""``thfr report``: a run's test images in one HTML page."""

from __future__ import annotations

import argparse

from thfr.cli.arguments import Commands, add_command, add_results_of_run, positive, results_of_run
from thfr.cli.line import add_objects
from thfr.cli.output import Result

_DESCRIPTION = """\
Write one HTML page on a run's test images that opens anywhere, without network: figures, ROC, PRO and sPRO
curves, the worst misses and false alarms, and a gallery of all images to sort, filter and compare (template,
restored features if `thfr visualize` has trained a network for them, anomaly map, ground truth).
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "report", run, help="a page on a run's test images", description=_DESCRIPTION
    )
    add_results_of_run(parser, "FILE", "page to write (default: RUN/report.html)")
    parser.add_argument(
        "--per-kind", type=positive, metavar="N", help="images of each kind in the gallery (default: all)"
    )
    add_objects(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.predictions.judging import Rules
    from thfr.visualization.run_report import report_of_run

    rules = Rules(args.min_area, args.pixels_per_mm)
    values = report_of_run(args.run_folder, per_kind=args.per_kind, rules=rules, **results_of_run(args))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in values["verdicts"].items())
    return Result(f"{counts or 'no decision threshold'}\nto look at: {values['report']}", values)
