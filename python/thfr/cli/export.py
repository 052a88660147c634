"""``thfr export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr.cli.arguments import Commands, add_command, add_run, existing_folder
from thfr.cli.output import Result

_DESCRIPTION = """\
Write a run as one model for another runtime: image in, anomaly map, score and verdict out.

The folder also gets export.json (threshold and preprocessing as data) and parity.json: the model is compared
with the run on its calibration images and on planted anomalies, and is only written if no verdict changes.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "export", run, help="write a run for another runtime", description=_DESCRIPTION
    )
    add_run(parser)
    parser.add_argument(
        "--format",
        choices=("onnx", "openvino", "torch"),
        default="onnx",
        help="onnx: for ONNX Runtime; openvino: for OpenVINO; torch: a program of torch.export",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--images",
        type=existing_folder,
        metavar="FOLDER",
        help="good images to compare on, instead of those that set the run's threshold",
    )
    parser.add_argument(
        "--input",
        choices=("resized", "native"),
        default="resized",
        help="native: the model takes images at their own size and resizes them itself (default: resized)",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--int8",
        action="store_const",
        dest="precision",
        const="int8",
        default="fp32",
        help="convolutions in 8 bits, calibrated on the good images (onnx); wider limits: noise of half the "
        "spread of good images' scores, other verdicts for at most a tenth of the images",
    )
    precision.add_argument(
        "--bf16",
        action="store_const",
        dest="precision",
        const="bf16",
        help="compute in bfloat16 where the processor can (openvino); the same limits",
    )


def run(args: argparse.Namespace) -> Result:
    from thfr.deploy.export.run import GateFailed, export_run

    native = args.input == "native"
    try:
        found = export_run(args.run_folder, args.out, args.format, args.images, args.precision, native)
    except GateFailed as error:
        values = {"out": None, "error": str(error), "parity": error.parity.as_dict()}
        return Result(f"thfr {error}", values, exit_code=1)
    parity = found["parity"]
    changed = f"verdicts changed: {len(parity['changed'])}" if parity["changed"] else "no verdict changed"
    text = (
        f"{args.out}: {found['method']} as {args.format} in {found['precision']}\n"
        f"compared on {parity['images']} good images and {parity['planted']} planted anomalies: {changed}, "
        f"scores within {parity['score_difference']:.2g} (of {parity['largest_score']:.3g}), maps "
        f"within {parity['map_difference']:.2g} (of {parity['largest_map']:.3g})\n"
        f"next: thfr predict {args.out} IMAGE|FOLDER --out RESULTS"
    )
    return Result(text, {"out": str(args.out), **found})
