"""``thfr bank``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command, add_device, add_run, existing_folder, positive
from thfr.cli.output import Result

_DESCRIPTION = """\
Write the memory of a PatchCore run, or the templates of a run of THFR or the template method, as a bank in
shards on disk, which needs the memory of one shard.

  thfr bank RUN --out BANK                    what the run keeps
  thfr bank RUN GOOD --out BANK               all of a folder of good images, however many
  thfr predict RUN IMAGES --bank BANK --out RESULTS
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "bank", run, help="a memory larger than the machine's", description=_DESCRIPTION
    )
    add_run(parser)
    parser.add_argument("images", metavar="GOOD", nargs="?", type=existing_folder, help="good images")
    parser.add_argument("--out", type=Path, required=True, metavar="BANK", help="folder to make")
    parser.add_argument(
        "--keys",
        choices=("fp16", "int8"),
        default="fp16",
        help="what a search reads: fp16 rows, or int8 codes and the rows of the candidates; both are exact",
    )
    parser.add_argument(
        "--faiss",
        metavar="KIND",
        help="also build an approximate index, IVF1024,Flat say, and measure its recall (thfr-ext[faiss])",
    )
    parser.add_argument("--probes", type=positive, default=16, help="lists that an IVF index looks at")
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.inference.bank import write_bank
    from thfr.methods import Detector

    found = write_bank(
        Detector.load(args.run_folder, args.device),
        args.out,
        args.images,
        keys=args.keys,
        faiss=args.faiss,
        probes=args.probes,
        progress=True,
    )
    text = f"{args.out}: {found['rows']:,} rows of {found['width']} values, {found['bytes'] / 1e6:,.1f} MB"
    if "recall" in found:
        text += f"\n{found['index']}, {found['probes']} probes: recall {found['recall']:.3f}"
    return Result(text, {"out": str(args.out), **found})
