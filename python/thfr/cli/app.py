"""The parser of the whole command line, and its error handling.

Nothing heavy is imported here: every command imports what it needs when it runs, so that ``thfr --help`` is
quick.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from thfr import distributed
from thfr.cli import (
    ablate,
    bank,
    bench,
    calibrate,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    gallery,
    predict,
    report,
    serve,
    synth,
    tables,
    teach,
    train,
    verify,
    visualize,
    watch,
)
from thfr.cli.output import Result, close_broken_streams, complain, open_streams, show
from thfr.errors import InputError

_SHARED = ("train", "predict", "evaluate")  # the commands that torchrun's processes do together

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = """\
Find defects in product images after seeing good products only (THFR, ICCV 2023).

  thfr demo                                            see it work on made-up images
  thfr train --dataset folder --data GOOD --out RUN    learn from a folder of good images
  thfr predict RUN NEW --out RESULTS                   verdicts, heat maps and a report of new images
  thfr evaluate RUN                                    the benchmark's figures, for MVTec AD and MVTec LOCO AD
  thfr tables --train ROOT --dataset mvtec_loco --out TABLES    the paper's tables, from data to LaTeX
"""
_EPILOG = """\
With --json the last line of stdout is one JSON object, {"error": ...} if the command fails.
Exit codes: 0 done, 2 wrong usage or input, 1 anything else. THFR_DEBUG=1 shows the traceback of an error.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser; every command's own part is in its own file."""
    parser = argparse.ArgumentParser(
        prog="thfr",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"thfr-ext {version('thfr-ext')}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in (
        *(demo, train, calibrate, teach, predict, serve, watch, evaluate, report, gallery, visualize),
        *(export, bank, ablate, compare, tables, synth, verify, doctor, bench),
    ):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse itself exits with 2 on wrong usage."""
    open_streams()
    try:
        args = build_parser().parse_args(argv)
        return _run(args)
    finally:
        close_broken_streams()


def _run(args: argparse.Namespace) -> int:
    command = f"thfr {args.command}"
    try:
        if distributed.launched() and args.command not in _SHARED:
            raise InputError(f"torchrun: only {', '.join(_SHARED)} share their work, start this one alone")
        # Libraries may print as they please: with --json, stdout is for the result alone.
        stdout = contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext()
        with stdout, distributed.process_group(getattr(args, "device", "auto")):
            result: Result = args.run(args)
            if not distributed.is_main():  # the main process tells what was found
                return result.exit_code
        if result.problems:
            complain(command, result.problems)
    except KeyboardInterrupt:
        result = _failed(args, INTERRUPTED, "interrupted")
    except BrokenPipeError:  # stderr's reader has gone: no use in telling it
        return FAILED
    except Exception as error:
        if os.environ.get("THFR_DEBUG") == "1":
            traceback.print_exc()
        if isinstance(error, InputError):
            result = _failed(args, WRONG_INPUT, str(error).removeprefix(f"{args.command}: "))
        else:
            said = str(error) or "no message"
            result = _failed(args, FAILED, f"{type(error).__name__}: {said} (THFR_DEBUG=1 shows where)")
    try:
        if result.text or args.json:
            show(result, args.json)
    except BrokenPipeError:
        return FAILED
    return result.exit_code


def _failed(args: argparse.Namespace, exit_code: int, message: str) -> Result:
    complain(f"thfr {args.command}", message)
    return Result("", {"error": message}, exit_code)
