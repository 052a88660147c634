"""``thfr teach``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from thfr.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_run,
    existing_folder,
    existing_path,
    rate,
    share,
)
from thfr.cli.output import Result, with_notes

if TYPE_CHECKING:
    from thfr.deploy.teach import Role, Taught

_DESCRIPTION = """\
Add good images, such as false alarms, to what a run keeps of good products, without training, and set its
threshold again. A new run folder is made; the old one stays as it is, so undoing is going on with that.

  thfr teach RUN false_alarms/ --out RUN2
  thfr teach RUN false_alarms/ --out RUN2 --check known_defects/     are they still found?

For the methods that keep good images: template, thfr (with templates), patchcore, spade, padim.
"""
_SHOWN = 12


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "teach", run, help="add good images without training", description=_DESCRIPTION
    )
    add_run(parser)
    parser.add_argument("good", metavar="GOOD", type=existing_path, help="folder of good images, or one")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN2", help="run folder to make")
    parser.add_argument(
        "--check",
        type=existing_path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="folders or images whose verdicts are compared before and after, known defects say",
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="kept in run.json")
    threshold = parser.add_argument_group("threshold, set by good images that the new run does not keep")
    threshold.add_argument(
        "--calibration",
        type=existing_folder,
        metavar="FOLDER",
        help="set it by these good images (default: by those that training held out)",
    )
    threshold.add_argument(
        "--holdout",
        type=share,
        metavar="SHARE",
        help="share of GOOD that only sets the threshold (default: 0, or 0.2 where there are no others; "
        "template needs none)",
    )
    threshold.add_argument(
        "--false-alarm-rate",
        type=rate,
        metavar="RATE",
        help="share of good products that may be called bad (default: that of RUN)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.deploy.teach import teach

    found = teach(
        args.run_folder,
        args.good,
        args.out,
        calibration=args.calibration,
        check=args.check,
        holdout=args.holdout,
        rate=args.false_alarm_rate,
        why=args.why,
        device=args.device,
        progress=True,
    )
    return Result(with_notes(_in_words(found, args.run_folder), found.metadata.notes), found.as_dict())


def _in_words(found: Taught, parent: Path) -> str:
    before = "none" if found.before is None else f"{found.before.value:.4g}"
    lines = [
        f"{found.run}: {found.label}, {len(found.of('taught'))} images taught in {found.seconds:.1f} s, "
        f"{found.metadata.images} learnt from in all",
        f"threshold: {before} before; now {found.threshold.in_words()}",
    ]
    roles: tuple[Role, ...] = ("taught", "held out", "checked")
    for role in roles:
        changes = found.of(role)
        if changes:
            was = sum(change.verdict_before == "bad" for change in changes)
            now = sum(change.verdict_after == "bad" for change in changes)
            lines.append(f"{role}: {len(changes)} images, {was} bad before, {now} bad now")
    changed = [change for change in found.changes if change.changed]
    for one in changed[:_SHOWN]:
        earlier, later = one.verdict_before or "no verdict", one.verdict_after
        lines.append(f"  {one.image} ({one.role}): {earlier} {one.before:.4g} -> {later} {one.after:.4g}")
    if len(changed) > _SHOWN:
        lines.append(f"  and {len(changed) - _SHOWN} more verdicts that changed (--json has them all)")
    lines.append(f"next: thfr predict {found.run} IMAGE|FOLDER --out RESULTS   (undo: go on with {parent})")
    return "\n".join(lines)
