"""``thfr watch``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thfr.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_run,
    existing_path,
    not_negative,
    not_negative_number,
    positive_number,
)
from thfr.cli.line import add_findings, add_sinks, rules, senders
from thfr.cli.output import Result

if TYPE_CHECKING:
    from thfr.deploy.model import FolderModel
    from thfr.deploy.sinks.sender import Sender
    from thfr.predictions.judging import Rules

_DESCRIPTION = """\
Score every image that appears in a folder, once, as soon as it is completely written. Results go to
DIR/results.jsonl, a line an image; DIR/journal.db keeps what has been done, so that the command can be
stopped or killed and started again at any time.

  thfr watch RUN camera/ --out results                 until Ctrl-C or SIGTERM
  thfr watch RUN camera/ --out results --move          sort the files into results/good, bad, unreadable
  thfr watch RUN camera/ --out results --once          what is there now, then end
  thfr watch RUN line.mp4 --out results --fps 5        five frames of each second of a video
  thfr watch RUN camera:0 --out results --fps 2        two frames a second of the first camera
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "watch", run, help="score what a camera writes", description=_DESCRIPTION)
    add_run(parser)
    parser.add_argument(
        "source",
        metavar="FOLDER|VIDEO|camera:N",
        type=source,
        help="folder to watch, video file, or index of a camera; the last two need thfr-ext[video]",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--once", action="store_true", default=None, help="end when every file there has been inspected"
    )
    parser.add_argument(
        "--move",
        action="store_true",
        help="move each file into a folder by its verdict; of a video: write each frame there",
    )
    parser.add_argument(
        "--pictures", choices=("none", "bad", "all"), default="bad", help="whose heat maps to write"
    )
    parser.add_argument(
        "--settle",
        type=not_negative_number,
        metavar="S",
        help="seconds without a change after which a file is complete (default: 1)",
    )
    parser.add_argument(
        "--interval", type=positive_number, metavar="S", help="seconds between two looks (default: 0.5)"
    )
    parser.add_argument(
        "--fps",
        type=positive_number,
        metavar="N",
        help="frames of a second of video that are scored (default: all of a file, 1 of a camera)",
    )
    add_findings(parser)
    add_sinks(parser, "(default: DIR/dead-letters.jsonl)")
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.deploy.drift import in_words
    from thfr.deploy.model import FolderModel

    of_folder = isinstance(args.source, Path) and args.source.is_dir()
    for name in ("fps",) if of_folder else ("once", "settle", "interval"):
        if getattr(args, name) is not None:
            args.parser.error(f"--{name}: only for a {'video or camera' if of_folder else 'folder'}")
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    model = FolderModel(args.run_folder, args.device)
    found = rules("watch", args, model.name)
    sending = senders("watch", args, args.out / "dead-letters.jsonl")
    watcher = _of_folder(args, model, found, sending) if of_folder else _of_video(args, model, found, sending)
    left = 0
    before = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        watcher.run(lambda: stopped, **({"once": bool(args.once)} if of_folder else {}))
        counts = watcher.journal.counts()
    finally:
        left = watcher.close()
        for number, handler in before:
            signal.signal(number, handler)
    drift = model.drift.report()
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    lines = [f"{args.out}: {words}", in_words(drift)]
    values = {"out": str(args.out), **counts, "not_sent": left, "drift": drift}
    if not of_folder:
        values["video"] = watcher.report()
        lines.append(_rates(values["video"]))
    if left:
        lines.append(f"{left} results are still to be sent; the next start sends them")
    return Result("\n".join(lines), values)


def _of_folder(args: argparse.Namespace, model: FolderModel, found: Rules, sending: list[Sender]) -> Any:
    from thfr.deploy.watch.watcher import Watcher, WatchSettings

    settle = WatchSettings.settle if args.settle is None else args.settle
    interval = args.interval or WatchSettings.interval
    settings = WatchSettings(settle, interval, args.move, args.pictures, found)
    return Watcher(model, args.source, args.out, settings, _tell, sending)


def _of_video(args: argparse.Namespace, model: FolderModel, found: Rules, sending: list[Sender]) -> Any:
    from thfr.deploy.watch.video import Camera, VideoSettings, VideoWatcher

    settings = VideoSettings(args.fps, args.move, args.pictures, found)
    opened = Camera(args.source) if isinstance(args.source, int) else args.source
    return VideoWatcher(model, opened, args.out, settings, _tell, sending)


def _rates(video: dict[str, Any]) -> str:
    def number(value: float | None) -> str:
        return "?" if value is None else f"{value:.3g}"

    return "; ".join(
        [
            f"{video['scored']} frames scored, {number(video['scored_a_second'])} a second; the video has "
            f"{number(video['source_fps'])} a second, of which {number(video['fps'])} are taken",
            *video["notes"],
        ]
    )


def source(text: str) -> Path | int:
    """argparse type: a folder or file that is there, or the index in ``camera:N``."""
    if text.startswith("camera:"):
        return not_negative(text.removeprefix("camera:"))
    return existing_path(text)


def _tell(row: dict[str, Any]) -> None:
    if row["error"] is not None:
        line = f"unreadable  {row['error']}"
    else:
        line = f"{row['verdict'] or 'scored':10s}  {row['score']:.4g}  {row['file']}"
    print(line, file=sys.stderr, flush=True)
