"""``thfr serve``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from thfr.cli.arguments import (
    Commands,
    add_command,
    add_device,
    existing_file,
    existing_folder,
    needs,
    not_negative,
    not_negative_number,
    port,
    positive,
    positive_number,
)
from thfr.cli.line import add_findings, add_sinks, masks, senders
from thfr.cli.output import Result
from thfr.errors import InputError
from thfr.extras import require

_DESCRIPTION = """\
Answer HTTP requests with the verdicts of trained runs; a run is asked for by its folder's name.

  thfr serve RUN                                              a page at http://127.0.0.1:8008/
  curl --data-binary @part.png http://127.0.0.1:8008/v1/inspect
  kill -HUP PID                                               reads the runs anew, without a pause
  thfr serve RUN1 RUN2 --host 0.0.0.0 --token-file token.txt  for other machines, which must send the token

Needs the extra: pip install thfr-ext[serve]
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "serve", run, help="answer HTTP requests", description=_DESCRIPTION)
    parser.add_argument(
        "run_folders", metavar="RUN", nargs="+", type=existing_folder, help="folder of `thfr train`"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=port, default=8008, help="TCP port to listen at")
    parser.add_argument(
        "--token-file",
        type=existing_file,
        metavar="FILE",
        help="a secret of at least 16 characters that requests must carry; needed for other hosts",
    )
    parser.add_argument(
        "--log",
        metavar="URL",
        help="inspection log: a file (SQLite) or a URL of SQLAlchemy; with it come history and feedback",
    )
    parser.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="with --log: append each inspection as a line, too"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-mib", type=positive, default=32, help="MiB of a request's body")
    limits.add_argument("--max-megapixels", type=positive, default=32, help="millions of pixels of an image")
    limits.add_argument("--queue", type=positive, default=64, help="images that may wait for a model")
    limits.add_argument("--batch", type=positive, default=8, help="images scored together at most")
    limits.add_argument(
        "--batch-wait",
        type=not_negative_number,
        default=5.0,
        metavar="MS",
        help="wait for a batch",
    )
    limits.add_argument("--timeout", type=positive_number, default=30.0, metavar="S", help="for each answer")
    add_findings(parser, several=True)
    add_sinks(parser, "(needed with these)")
    teaching = parser.add_argument_group("teaching from the page, with --log")
    teaching.add_argument(
        "--originals",
        type=not_negative,
        default=0,
        metavar="N",
        help="keep the files of the last N images, and of the last N that got feedback, in the log",
    )
    teaching.add_argument(
        "--teach-to",
        type=Path,
        metavar="DIR",
        help="folder for runs that are taught from the page; needs --originals",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    require("serve:", "serve", "fastapi", "uvicorn", "prometheus_client", "sqlalchemy", "python_multipart")
    from thfr.deploy.inspections import InspectionLog
    from thfr.deploy.memory import keep_memory_flat
    from thfr.deploy.model import named
    from thfr.deploy.secrets import read_token
    from thfr.deploy.serve.app import create_app
    from thfr.deploy.serve.running import is_loopback, serve
    from thfr.deploy.serve.settings import MEBIBYTE, Settings
    from thfr.deploy.serve.swapping import Swapper
    from thfr.deploy.serve.teaching import Teacher

    local = is_loopback(args.host)
    if not local and args.token_file is None:
        raise InputError(f"serve: --host {args.host}: other machines could ask; expected --token-file too")
    needs(args, jsonl="log", originals="log", teach_to="originals")
    folders = named("serve", args.run_folders)
    token = None if args.token_file is None else read_token("serve: --token-file", args.token_file)
    settings = Settings(
        max_bytes=args.max_mib * MEBIBYTE,
        max_pixels=args.max_megapixels * 1_000_000,
        queue_images=args.queue,
        queue_pixels=max(4 * args.max_megapixels * 1_000_000, Settings.queue_pixels),
        batch_images=args.batch,
        batch_wait=args.batch_wait / 1000,
        timeout=args.timeout,
        min_area=args.min_area,
        pixels_per_mm=args.pixels_per_mm,
        where=masks("serve", args, list(folders)),
        token=token,
        hosts=(*Settings.hosts, args.host) if local else ("*",),
    )
    log = None if args.log is None else InspectionLog(log_url(args.log), args.jsonl, originals=args.originals)
    teacher = None if args.teach_to is None or log is None else Teacher(log, args.teach_to, args.device)
    swapper = Swapper(folders, args.teach_to, log, args.device)
    models = swapper.models()
    sending = senders("serve", args, None)
    shown = f"[{args.host}]" if ":" in args.host else args.host
    print(f"serving {', '.join(models)} at http://{shown}:{args.port}/", file=sys.stderr, flush=True)
    keep_memory_flat()
    app = create_app(models, settings, log, sending, teacher, swapper)
    serve(app, args.host, args.port, lambda: swapper.reload(app.state.inspector))
    return Result("stopped", {"models": list(models), "host": args.host, "port": args.port})


def log_url(text: str) -> str:
    """A URL as it is; a file's name as that of an SQLite database."""
    return text if "://" in text else f"sqlite:///{Path(text).absolute()}"
