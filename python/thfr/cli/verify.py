"""``thfr verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command
from thfr.cli.output import Result
from thfr.data.registry import dataset_names

_WRONG_INPUT = 2


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "verify",
        run,
        help="check a data set",
        description="Decode all images and masks of a data set. Lists all that cannot be used (problems, "
        "exit code 2) and all that is used but looks odd (notes).",
    )
    parser.add_argument("--dataset", choices=dataset_names(), required=True, help="layout of the data")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="folder of the data")
    parser.add_argument("--category", metavar="NAME", help="which folder in ROOT, if it holds several")


def run(args: argparse.Namespace) -> Result:
    from thfr.data import load_dataset

    dataset = load_dataset(args.dataset, args.data, args.category)
    found = dataset.check(progress=True)
    counts = {split: len(getattr(dataset, split)) for split in ("train", "validation", "test")}
    values = {
        "dataset": dataset.name,
        "category": dataset.category,
        "images": counts,
        "kinds": dataset.kinds,
        "masks": dataset.has_masks,
        "problems": list(found.problems),
        "notes": list(found.notes),
    }
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    lines = [f"{dataset.category}: {listed} images; {len(found.problems)} problem(s)"]
    lines += [f"  problem: {problem}" for problem in found.problems]
    lines += [f"  note: {note}" for note in found.notes]
    return Result("\n".join(lines), values, _WRONG_INPUT if found.problems else 0)
