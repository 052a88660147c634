"""``thfr predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from thfr import distributed
from thfr.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_precision,
    add_run,
    existing_folder,
    needs,
)
from thfr.cli.line import add_findings, rules
from thfr.cli.output import Result, in_words, with_notes

_SHOWN = 20


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "predict",
        run,
        help="score new images",
        description="Score images with a trained run and write scores, findings, anomaly maps and a report.",
    )
    add_run(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE|FOLDER",
        help="an image or a folder of images; with --stream also a URL or tar archives, part-*.tar say",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="write scores row by row and nothing else: for very many images, also below a URL (s3://, "
        "gs://, memory://: thfr-ext[remote]); the same command resumes it",
    )
    parser.add_argument(
        "--table",
        choices=("csv", "parquet"),
        help="with --stream: the file that is written, scores.csv (default) or .parquet (thfr-ext[parquet])",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="with --stream: also write the maps",
    )
    parser.add_argument(
        "--bank",
        type=existing_folder,
        metavar="DIR",
        help="of `thfr bank`: search it instead of the run's own memory or templates",
    )
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="search the bank's faiss index; recall.json tells its recall",
    )
    add_findings(parser)
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

    needs(args, maps="stream", table="stream", approximate="bank")
    detector = open_detector(args.run_folder, args.device, args.precision)
    if args.bank is not None:
        from thfr.inference.bank import with_bank

        detector = with_bank(detector, args.bank, args.approximate)
    if args.stream:
        return _stream(args, detector)
    images = Path(args.images)
    if not distributed.is_main():
        help_to_score(detector, collect(images, args.out).items, BATCH, images=True)
        return Result("")
    found = rules("predict", args, args.run_folder.resolve().name)
    results = inspect(detector, images, args.out, rules=found, progress=True)
    worst = sorted(results.images, key=lambda image: image.score, reverse=True)[:_SHOWN]
    lines = ["   score        image"]
    lines += [
        f"{image.score:8.4f}  {image.verdict or '':4}  {printable(image.item.name)}"
        + (f"  {image.category}" if image.category else "")
        for image in worst
    ]
    if len(results.images) > _SHOWN:
        more = f"and {len(results.images) - _SHOWN} with lower scores, see {args.out / files.SCORES_CSV}"
        lines.append(" " * 16 + more)
    limit = in_words(results.threshold, results.thresholds)
    if not limit:
        lines.append("\nno threshold to call images good or bad by: thfr calibrate sets it")
    else:
        bad = sum(image.verdict == "bad" for image in results.images)
        lines.append(
            f"\n{bad} of {len(results.images)} are bad"
            + (f":\n{limit}" if results.thresholds else f"; {limit}")
        )
        count = sum(len(image.findings or ()) for image in results.images)
        lines.append(f"{count} findings, the parts of maps above it: {args.out / files.FINDINGS_CSV}")
    reports = sorted({image.category for image in results.images}, key=str)
    shown = [str(args.out / (files.REPORT if one is None else files.report_of(one))) for one in reports]
    lines.append(with_notes(f"to look at: {', '.join(shown)}", results.notes))
    values = {"out": str(args.out), **results.as_dict()}
    if not results.failed:
        return Result("\n".join(lines), values)
    problems = unreadable("predict", results.failed).removeprefix("predict: ")
    problems += f"\n  the results of the other {len(results.images)} are in {args.out}"
    return Result("\n".join(lines), values, 2, problems)


def _stream(args: argparse.Namespace, detector: Any) -> Result:
    from thfr.inference.stream import predict_stream

    main = distributed.is_main()
    how = rules("predict", args, args.run_folder.resolve().name)
    found = predict_stream(
        detector, args.images, args.out, maps=args.maps, rules=how, table=args.table or "csv", progress=main
    )
    if not main:
        return Result("")
    text = f"{found['images']:,} images scored, {found['failed']:,} failed"
    if found["bad"] is not None:
        text += f", {found['bad']:,} are bad"
    if found["resumed"]:
        text += f"; {found['resumed']:,} of them were there already"
    return Result(f"{text}: {found['scores']}", found, exit_code=2 if found["failed"] else 0)
