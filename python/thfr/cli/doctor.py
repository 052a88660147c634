"""``thfr doctor``."""

from __future__ import annotations

import argparse
import textwrap

from thfr.cli.arguments import Commands, add_command
from thfr.cli.output import Result

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "doctor",
        run,
        help="check the installation",
        description="Say what is built, what is active, what is missing, and the command that repairs it. "
        "Exits with 1 if something that is needed is missing.",
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="check every CUDA kernel on this GPU and keep the verdicts: those that are right and faster are "
        "used from then on",
    )


def run(args: argparse.Namespace) -> Result:
    from thfr.cli.checks import diagnose, report
    from thfr.cli.gpu_checks import gpu_checks

    checks = diagnose()
    if args.gpu:
        checks += gpu_checks()
    values = report(checks)
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.status]}  {check.name.ljust(width)}  {check.detail}")
        if check.fix:
            lines.append(textwrap.indent(f"-> {check.fix}", " " * (width + 11)))
    attention = sum(check.status != "ok" for check in checks)
    lines.append(f"\n{values['status']}: {attention} of {len(checks)} checks need attention")
    return Result("\n".join(lines), values, exit_code=1 if values["status"] == "error" else 0)
