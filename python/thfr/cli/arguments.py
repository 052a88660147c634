"""What the commands' parsers have in common."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thfr.cli.output import Result
from thfr.data.registry import dataset_names
from thfr.errors import InputError
from thfr.io.sizes import parse_grid, parse_size

Commands = Any  # argparse's type of `add_subparsers`, which has no public name

DEVICES = ("auto", "cpu", "cuda")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there are any, and leaves the line breaks of the descriptions alone."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], Result],
    *,
    help: str,
    description: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    """Add a command that ``run`` carries out, with its ``--json``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--json", action="store_true", help="end stdout with one JSON object, progress goes to stderr"
    )
    return parser


def add_device(parser: argparse._ActionsContainer, default: str = "auto") -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=default,
        help="where to compute; auto takes CUDA where there is one",
    )


def add_run(parser: argparse._ActionsContainer, optional: bool = False) -> None:
    """The positional RUN."""
    parser.add_argument(
        "run_folder",
        metavar="RUN",
        nargs="?" if optional else None,
        type=existing_folder,
        help="folder of `thfr train`",
    )


def add_results_of_run(parser: argparse._ActionsContainer, out: str, out_help: str) -> None:
    """What the commands that draw a run's test images have in common: RUN, ``--data``, ``--maps``,
    ``--out``.
    """
    add_run(parser)
    parser.add_argument(
        "--data",
        type=existing_path,
        metavar="ROOT",
        help="folder of the data set, if it was moved since training",
    )
    parser.add_argument(
        "--maps",
        type=Path,
        metavar="DIR",
        help="folder of the test images' scores and maps, as of `thfr evaluate --maps-out`; those that are "
        "not of this run and these images are made again (default: RUN/results)",
    )
    parser.add_argument("--out", type=Path, metavar=out, help=out_help)
    add_device(parser)


def results_of_run(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_results_of_run` was given, as arguments of the functions that draw.

    Raises:
        InputError: no ``--out``, and a run that cannot be written into.
    """
    if args.out is None and not os.access(args.run_folder, os.W_OK):
        raise InputError(f"{args.command}: cannot write into {args.run_folder}; say where: --out")
    return {name: getattr(args, name) for name in ("out", "data", "maps", "device")} | {"progress": True}


def needs(args: argparse.Namespace, **others: str) -> None:
    """Refuse an option that was given without the other one that it needs.

    Raises:
        InputError: names both.
    """
    for option, other in others.items():
        if getattr(args, option) and not getattr(args, other):
            shown, needed = (name.replace("_", "-") for name in (option, other))
            raise InputError(f"{args.command}: --{shown}: expected --{needed} too")


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="what the networks compute in: fp32, bf16 or, on CUDA, fp16 (default: fp32)",
    )


def existing_path(text: str) -> Path:
    """argparse type: a folder or a file that is there."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"no such file or folder: {text}")
    return path


def existing_folder(text: str) -> Path:
    """argparse type: a folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{'not a folder' if path.exists() else 'no such folder'}: {text}")
    return path


def existing_file(text: str) -> Path:
    """argparse type: a file that is there."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return path


def _integer(least: int, most: float = math.inf) -> Callable[[str], int]:
    """argparse type: an integer from ``least`` to ``most``."""
    limit = "" if most == math.inf else f" and <= {most}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected an integer >= {least}{limit}, got {text!r}")
        return number

    return parse


def _number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """argparse type: a finite number that fits; ``expected``: which ones do, in words."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


positive, not_negative, port = _integer(1), _integer(0), _integer(1, 65535)
positive_number = _number("a number above 0", lambda value: value > 0)
not_negative_number = _number("a number of at least 0", lambda value: value >= 0)
share = _number("a share from 0 to below 1", lambda value: 0 <= value < 1)
overlap = _number("a share from 0 to below 0.5", lambda value: 0 <= value < 0.5)
rate = _number("a rate above 0 and below 1", lambda value: 0 < value < 1)


def byte_count(text: str) -> int:
    """argparse type: bytes of memory, such as 64M or 2G (powers of 1000)."""
    scale = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:].upper(), 1)
    fitting = _number("bytes such as 64M or 2G", lambda value: 1 <= value * scale < 2**63)
    return int(fitting(text[:-1] if scale > 1 else text) * scale)


def add_study(parser: argparse.ArgumentParser) -> None:
    """What a study is run on: the options of ``thfr ablate``, most of them of ``thfr tables`` too."""
    parser.add_argument("--dataset", choices=dataset_names(), required=True, help="layout and protocol")
    parser.add_argument(
        "--data", type=existing_path, metavar="ROOT", required=True, help="folder of the data set"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for cells and results")
    add_study_settings(parser)


def add_study_settings(parser: argparse._ActionsContainer) -> None:
    """How a study's trainings differ from the pinned configuration."""
    parser.add_argument(
        "--category",
        nargs="+",
        metavar="NAME",
        default=[],
        help="folders in ROOT (all of them if none is given)",
    )
    parser.add_argument("--seeds", type=not_negative, nargs="+", metavar="N", help="(default: 0 1 2)")
    parser.add_argument("--backbone", metavar="NAME", help="extractor (default: wide_resnet50_2)")
    parser.add_argument(
        "--weights", type=existing_file, metavar="FILE", help="the backbone's weights, .safetensors or .pth"
    )
    parser.add_argument("--size", type=input_size, metavar="SIZE", help=f"{SIZE_HELP} (default: 256)")
    parser.add_argument(
        "--epochs", type=positive, metavar="N", help="passes over the training images, exactly"
    )
    parser.add_argument(
        "--config",
        type=existing_file,
        metavar="FILE",
        help="YAML of other fields to change, as in config.yaml",
    )
    parser.add_argument(
        "--keep-runs",
        action="store_true",
        help="keep the trained networks, OUT/runs, for predict and evaluate",
    )
    add_ray(parser)
    add_device(parser)


def add_ray(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="carry the trials out on a Ray cluster (auto, HOST:6379, or local to start one here), whose "
        "machines see the same folders; needs thfr-ext[ray]",
    )


def add_tiles(parser: Any) -> None:
    """``--fit``, ``--tiles`` and ``--overlap``."""
    parser.add_argument(
        "--fit",
        choices=("stretch", "letterbox"),
        help="how an image of another aspect comes into the input: stretched (default), or with bars",
    )
    parser.add_argument(
        "--tiles",
        type=tile_grid,
        metavar="ROWSxCOLUMNS",
        help="see every image in tiles, each of --size: for small defects, as 3x2",
    )
    parser.add_argument(
        "--overlap",
        type=overlap,
        metavar="SHARE",
        help="share of a tile's edge that it has in common with the next one (default: 0.1)",
    )


def geometry(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a model's configuration that ``--size`` and :func:`add_tiles` set."""
    given = {name: getattr(args, name) for name in ("size", "fit", "tiles", "overlap")}
    return {name: value for name, value in given.items() if value is not None}


SIZE_HELP = "input in pixels: 256 for a square, or HEIGHTxWIDTH, as 256x640"


def _pair(parse: Callable[[str], tuple[int, int]]) -> Callable[[str], tuple[int, int]]:
    """argparse type: what ``parse`` takes."""

    def convert(text: str) -> tuple[int, int]:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


input_size, tile_grid = _pair(parse_size), _pair(parse_grid)
AUTO = "auto"


def input_size_or_auto(text: str) -> tuple[int, int] | str:
    """argparse type: :func:`input_size`, or as it is :data:`AUTO`, alone or with an edge, ``auto:384``."""
    word, colon, edge = text.partition(":")
    if word != AUTO:
        return input_size(text)
    if colon:
        positive(edge)
    return text
