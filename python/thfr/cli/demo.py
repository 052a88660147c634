"""``thfr demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command
from thfr.cli.output import Result


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        run,
        help="see it work, without data or network",
        description="Make up a product, learn from good images of it, find the defects in others, and write "
        "a report to look at: two to three minutes on two processor cores. Needs no data and no network. "
        "Called again, it is resumed.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder for everything it makes"
    )


def run(args: argparse.Namespace) -> Result:
    from thfr.cli import demo_run as demo

    found = demo.run(args.out)
    return Result(demo.summary(found), found)
