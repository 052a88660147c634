"""``thfr predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr import distributed
from thfr.cli.arguments import Commands, add_command, add_device, add_precision, add_run
from thfr.cli.output import Result, with_notes

_SHOWN = 20


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "predict",
        run,
        help="score new images",
        description="Score images with a trained run and write scores, anomaly maps and a report to look at.",
    )
    add_run(parser)
    parser.add_argument("images", metavar="IMAGE|FOLDER", type=Path, help="an image, or a folder of images")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add_device(parser)
    add_precision(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.deploy.exported import open_detector
    from thfr.inference.predict import BATCH
    from thfr.inference.scoring import help_to_score, unreadable
    from thfr.io import printable
    from thfr.predictions import files
    from thfr.predictions.sources import collect
    from thfr.visualization.inspection import inspect

    detector = open_detector(args.run_folder, args.device, args.precision)
    if not distributed.is_main():
        help_to_score(detector, collect(args.images, args.out).items, BATCH, images=True)
        return Result("")
    results = inspect(detector, args.images, args.out, progress=True)
    worst = sorted(results.images, key=lambda image: image.score, reverse=True)[:_SHOWN]
    lines = ["   score        image"]
    lines += [f"{image.score:8.4f}  {image.verdict or '':4}  {printable(image.item.name)}" for image in worst]
    if len(results.images) > _SHOWN:
        more = f"and {len(results.images) - _SHOWN} with lower scores, see {args.out / files.SCORES_CSV}"
        lines.append(" " * 16 + more)
    if results.threshold is None:
        lines.append("\nno threshold to call images good or bad by: thfr calibrate sets it")
    else:
        bad = sum(image.verdict == "bad" for image in results.images)
        lines.append(f"\n{bad} of {len(results.images)} are bad; {results.threshold.in_words()}")
    lines.append(with_notes(f"to look at: {args.out / files.REPORT}", results.notes))
    values = {"out": str(args.out), **results.as_dict()}
    if not results.failed:
        return Result("\n".join(lines), values)
    problems = unreadable("predict", results.failed).removeprefix("predict: ")
    problems += f"\n  the results of the other {len(results.images)} are in {args.out}"
    return Result("\n".join(lines), values, 2, problems)
