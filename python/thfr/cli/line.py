"""The options that several commands share: how findings are made, and where results are sent."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thfr.cli.arguments import existing_file, needs, positive, positive_number
from thfr.errors import InputError

if TYPE_CHECKING:
    from thfr.deploy.sinks.sender import Sender
    from thfr.predictions.judging import Rules, Where


def add_objects(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """``--min-area`` and ``--pixels-per-mm``."""
    findings = parser.add_argument_group("findings, the parts of a map above the threshold")
    findings.add_argument(
        "--min-area", type=positive, default=1, metavar="PIXELS", help="leave out smaller findings"
    )
    findings.add_argument(
        "--pixels-per-mm", type=positive_number, metavar="N", help="scale of the images, for millimetres"
    )
    return findings


def add_findings(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """:func:`add_objects`, ``--region`` and ``--ignore``.

    Args:
        several: there may be several runs, of which a mask may be for one.
    """
    findings = add_objects(parser)
    metavar, of_one = ("[RUN=]FILE", "; RUN=FILE: for this run only") if several else ("FILE", "")
    for name, what in (("region", "look only where"), ("ignore", "do not look where")):
        findings.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar=metavar,
            help=f"{what} this image is not black; stretched to each image{of_one}",
        )


def rules(command: str, args: argparse.Namespace, name: str) -> Rules:
    """What :func:`add_findings` was given, for one run.

    Raises:
        InputError: a file that is no mask, or two.
    """
    from thfr.predictions.judging import Rules

    return Rules(args.min_area, args.pixels_per_mm, masks(command, args, [name])[name])


def masks(command: str, args: argparse.Namespace, names: Sequence[str]) -> dict[str, Where]:
    """The masks of each run, by its name.

    Raises:
        InputError: a file that is no mask, or two for one run.
    """
    from thfr.predictions.judging import Where, read_mask

    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for option in ("region", "ignore"):
        for text in getattr(args, option):
            name, sign, file = text.partition("=")
            chosen, path = ([name], file) if sign and name in found and len(names) > 1 else (names, text)
            for one in chosen:
                if option in found[one]:
                    raise InputError(f"{command}: --{option}: expected one mask for {one}, got two")
                found[one][option] = path
    read = {
        name: {key: read_mask(f"{command}: --{key}", Path(path)) for key, path in one.items()}
        for name, one in found.items()
    }
    return {name: Where(one.get("region"), one.get("ignore")) for name, one in read.items()}


def add_sinks(parser: argparse.ArgumentParser, dead_letters: str) -> None:
    """``--webhook``, ``--mqtt`` and what belongs to them."""
    sinks = parser.add_argument_group("where each result is sent, as JSON")
    sinks.add_argument("--webhook", metavar="URL", help="POST it there")
    sinks.add_argument(
        "--webhook-token-file", type=existing_file, metavar="FILE", help="sent as Authorization: Bearer"
    )
    sinks.add_argument(
        "--mqtt", metavar="URL", help="publish it: mqtt://[USER@]HOST[:PORT]/TOPIC, or mqtts:// for TLS"
    )
    sinks.add_argument("--mqtt-password-file", type=existing_file, metavar="FILE", help="password of USER")
    sinks.add_argument(
        "--dead-letters",
        type=Path,
        metavar="FILE",
        help=f"gets a line for each result that nobody took {dead_letters}",
    )


def senders(command: str, args: argparse.Namespace, dead_letters: Path | None) -> list[Sender]:
    """The senders asked for; they run from now on.

    Args:
        dead_letters: where they go unless ``args`` says so.

    Raises:
        InputError: a URL or a file that cannot be used, or nowhere for the dead letters.
    """
    from thfr.deploy.secrets import read_token
    from thfr.deploy.sinks.mqtt import Mqtt
    from thfr.deploy.sinks.sender import Sender, Sink
    from thfr.deploy.sinks.webhook import Webhook

    def secret(option: str, path: Path | None) -> str | None:
        return None if path is None else read_token(f"{command}: {option}", path, 1)

    sinks: list[Sink] = []
    try:
        if args.webhook is not None:
            token = secret("--webhook-token-file", args.webhook_token_file)
            sinks.append(Webhook(args.webhook, token))
        if args.mqtt is not None:
            sinks.append(Mqtt(args.mqtt, secret("--mqtt-password-file", args.mqtt_password_file)))
    except InputError as error:
        raise InputError(f"{command}: {str(error).removeprefix(f'{command}: ')}") from error
    needs(args, webhook_token_file="webhook", mqtt_password_file="mqtt")
    path = args.dead_letters or dead_letters
    if not sinks and args.dead_letters is not None:
        raise InputError(f"{command}: --dead-letters: expected --webhook or --mqtt too")
    if not sinks:
        return []
    if path is None:
        raise InputError(f"{command}: expected --dead-letters FILE too, for results that nobody takes")
    return [Sender(sink, path) for sink in sinks]
