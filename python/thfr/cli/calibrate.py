"""``thfr calibrate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command, add_device, add_run, existing_folder, rate
from thfr.cli.output import Result, in_words, with_notes

_DESCRIPTION = """\
Set the decision threshold, above which `thfr predict` calls a product bad, by good images that
training has not seen, for a wanted false-alarm rate; the run's threshold.json is replaced.
The more images, the smaller the rate that can be had: n of them allow 1 / (n + 1).

  thfr calibrate RUN images/more_good                            any good images of the product
  thfr calibrate RUN --false-alarm-rate 0.01                     the images it was set by at first
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "calibrate", run, help="set the threshold", description=_DESCRIPTION)
    add_run(parser)
    parser.add_argument(
        "images",
        metavar="FOLDER",
        type=existing_folder,
        nargs="?",
        help="folder of good images, not among those learnt from; without it the scores that the run has",
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=rate,
        default=0.05,
        metavar="RATE",
        help="share of good products that may be called bad",
    )
    parser.add_argument(
        "--category", metavar="NAME", help="of a run on several: which one the images of FOLDER are of"
    )
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.inference.calibration import calibrate
    from thfr.runs.threshold import Threshold

    path: Path = args.run_folder
    notes: list[str] = []
    found = calibrate(
        path,
        args.images,
        args.false_alarm_rate,
        category=args.category,
        device=args.device,
        progress=True,
        notes=notes,
    )
    if isinstance(found, Threshold):
        text = with_notes(f"{path}: {found.in_words()}", notes)
        return Result(text, {"run": str(path), **found.as_dict(), "notes": notes})
    text = with_notes(f"{path}\n{in_words(None, found)}", notes)
    thresholds = {name: one.as_dict() for name, one in found.items()}
    return Result(text, {"run": str(path), "thresholds": thresholds, "notes": notes})
