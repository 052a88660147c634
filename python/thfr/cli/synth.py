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
        description="Draw a product with logical and structural anomalies and write images, masks and "
        "defects_config.json in the layout of MVTec LOCO AD. The same seed gives the same bytes.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to make; must be new or empty")
    parser.add_argument("--images", type=positive, metavar="N", default=60, help="number of training images")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the random drawing")


def run(args: argparse.Namespace) -> Result:
    from thfr.data.synth import synthesize

    dataset = synthesize(args.out, images=args.images, seed=args.seed)
    counts = {split: len(getattr(dataset, split)) for split in ("train", "validation", "test")}
    values = {"out": str(args.out), "dataset": dataset.name, "category": dataset.category, **counts}
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    return Result(f"{dataset.folder}: {listed} images", values)
