"""``thfr visualize``: restored features as pictures."""

from __future__ import annotations

import argparse
from typing import Any

from thfr.cli.arguments import (
    Commands,
    add_command,
    add_results_of_run,
    existing_folder,
    not_negative,
    positive,
    results_of_run,
)
from thfr.cli.output import Result

_DESCRIPTION = """\
Draw the features that networks restore as images (Figure 3 of the supplement): a normal image, a
defective one, the same from its extracted features, from those restored by RUN and by the runs beside it
(gbn, lbn, gl, thfr), its template, the anomaly map and the ground truth.

  thfr visualize RUN
  thfr visualize RUN --beside RUN_GBN RUN_LBN RUN_GL

The first call trains the visualization network, which is then kept in RUN. It serves pictures only: no
score depends on it.
"""
_EPILOG = """\
Options of the network that are not given are those of the network in RUN; one that differs is refused.
Training it on ResNet-18 features of 256 x 256 pixels takes about five minutes of one processor core.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "visualize",
        run,
        help="restored features as pictures",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_results_of_run(parser, "DIR", "folder for the pictures (default: RUN/strips)")
    parser.add_argument(
        "--beside",
        nargs="+",
        type=existing_folder,
        default=[],
        metavar="RUN",
        help="further runs on the same backbone and data, to be shown beside it",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="KIND/ID",
        help="test images to draw (default: of each kind of defect the one of median score)",
    )
    network = parser.add_argument_group("visualization network")
    network.add_argument("--steps", type=positive, metavar="N", help="training steps (default: 240)")
    network.add_argument("--seed", type=not_negative, metavar="N", help="of weights and order (default: 0)")
    network.add_argument(
        "--with-test",
        action="store_true",
        help="train it on the test images too, as the paper does: for pictures only, never for scores",
    )


def run(args: argparse.Namespace) -> Result:
    from thfr.visualization.strips import visualize

    asked: dict[str, Any] = {
        name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None
    }
    if args.with_test:
        asked["test_images"] = True
    values = visualize(args.run_folder, args.beside, images=args.images, asked=asked, **results_of_run(args))
    return Result(_text(values), values)


def _text(values: dict[str, Any]) -> str:
    error = values["network"]["error"]
    rows = [("held out", error["held_out"]), *error.get("test", {}).items()]
    lines = [f"{'reconstruction of':24}{'images':>7}{'MSE':>10}{'PSNR':>10}"]
    lines += [f"{name:24}{row['images']:7}{row['mse']:10.5f}{row['psnr']:7.2f} dB" for name, row in rows]
    lines.append(f"{'the mean image instead':24}{'':7}{error['held_out']['mse_of_mean_image']:10.5f}")
    return "\n".join([*lines, "", f"to look at: {values['page']}"])
