"""``thfr synth``: made-up data in the layout of MVTec LOCO AD."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command, not_negative, positive
from thfr.cli.output import Result


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "synth",
        run,
        help="make up a small data set",
        description="Draw a product with logical and structural anomalies, and write images, masks and "
        "defects_config.json to OUT/synth_tray in the layout of MVTec LOCO AD. The same number and seed give "
        "the same bytes.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the data set")
    parser.add_argument(
        "--images", type=positive, metavar="N", default=96, help="training images; about as many to test with"
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of everything random")


def run(args: argparse.Namespace) -> Result:
    from thfr.data import load_dataset
    from thfr.data.synth import generate

    dataset = load_dataset("mvtec_loco", generate(args.out, args.images, args.seed, progress=True))
    counts = {split: len(getattr(dataset, split)) for split in ("train", "validation", "test")}
    values = {"data": str(args.out), "dataset": dataset.name, "category": dataset.category, **counts}
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    text = (
        f"{dataset.folder}: {listed} images\n"
        f"next: thfr train --dataset {dataset.name} --data {args.out} "
        "--backbone tf_efficientnet_lite0 --out RUN"
    )
    return Result(text, values)
