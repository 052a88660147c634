"""``thfr watch``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from thfr.cli.arguments import Commands, add_command, add_device, add_run, existing_folder
from thfr.cli.line import add_findings, add_sinks, not_negative_number, positive_number, rules, senders
from thfr.cli.output import Result

_DESCRIPTION = """\
Score every image that appears in a folder, once, as soon as it is completely written. Results go to
DIR/results.jsonl, a line an image; DIR/journal.db keeps what has been done, so that the command can be
stopped or killed and started again at any time.

  thfr watch RUN camera/ --out results                 until Ctrl-C or SIGTERM
  thfr watch RUN camera/ --out results --move          sort the files into results/good, bad, unreadable
  thfr watch RUN camera/ --out results --once          what is there now, then end
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "watch", run, help="score what a camera writes", description=_DESCRIPTION)
    add_run(parser)
    parser.add_argument("folder", metavar="FOLDER", type=existing_folder, help="folder to watch")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--once", action="store_true", help="end when every file there has been inspected")
    parser.add_argument("--move", action="store_true", help="move each file into a folder by its verdict")
    parser.add_argument(
        "--pictures", choices=("none", "bad", "all"), default="bad", help="whose heat maps to write"
    )
    parser.add_argument(
        "--settle",
        type=not_negative_number,
        default=1.0,
        metavar="S",
        help="seconds without a change after which a file is complete",
    )
    parser.add_argument(
        "--interval", type=positive_number, default=0.5, metavar="S", help="seconds between two looks"
    )
    add_findings(parser)
    add_sinks(parser, "(default: DIR/dead-letters.jsonl)")
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.deploy.drift import in_words
    from thfr.deploy.model import FolderModel
    from thfr.deploy.watch.watcher import Watcher, WatchSettings

    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    model = FolderModel(args.run_folder, args.device)
    found = rules("watch", args, model.name)
    settings = WatchSettings(args.settle, args.interval, args.move, args.pictures, found)
    sending = senders("watch", args, args.out / "dead-letters.jsonl")
    watcher = Watcher(model, args.folder, args.out, settings, _tell, sending)
    left = 0
    before = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        watcher.run(lambda: stopped, once=args.once)
        counts = watcher.journal.counts()
    finally:
        left = watcher.close()
        for number, handler in before:
            signal.signal(number, handler)
    drift = model.drift.report()
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    lines = [f"{args.out}: {words}", in_words(drift)]
    if left:
        lines.append(f"{left} results are still to be sent; the next start sends them")
    return Result("\n".join(lines), {"out": str(args.out), **counts, "not_sent": left, "drift": drift})


def _tell(row: dict[str, Any]) -> None:
    if row["error"] is not None:
        line = f"unreadable  {row['error']}"
    else:
        line = f"{row['verdict'] or 'scored':10s}  {row['score']:.4g}  {row['file']}"
    print(line, file=sys.stderr, flush=True)
