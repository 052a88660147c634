"""``thfr gallery``: a page of typical defects."""

from __future__ import annotations

import argparse

from thfr.cli.arguments import Commands, add_command, add_results_of_run, positive, results_of_run
from thfr.cli.output import Result

_DESCRIPTION = """\
Draw a page for print, PNG and PDF, of what a run finds in its test images (Figures 4 to 10 of the
supplement): a row a kind of defect with the image, its template, the restored features (if `thfr visualize`
has trained a network for them), the anomaly map on one colour scale, and the ground truth.

Which images are shown is decided by a rule: of each kind the one of median score.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "gallery", run, help="a page of typical defects, for print", description=_DESCRIPTION
    )
    add_results_of_run(parser, "DIR", "folder for the pages (default: RUN/gallery)")
    parser.add_argument(
        "--per-kind",
        type=positive,
        metavar="N",
        default=1,
        help="images of each kind of defect, evenly spread over the order of their scores",
    )


def run(args: argparse.Namespace) -> Result:
    from thfr.visualization.qualitative import qualitative

    values = qualitative(args.run_folder, per_kind=args.per_kind, **results_of_run(args))
    return Result(f"to look at: {', '.join(values['pages'])}", values)
