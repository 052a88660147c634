"""``thfr bench``."""

from __future__ import annotations

import argparse
from typing import Any

from thfr.cli.arguments import Commands, add_command, add_device, add_precision, add_run, positive
from thfr.cli.output import Result

_DESCRIPTION = """\
Time a trained run on this machine: milliseconds for a batch, by stage where its method names any (for
THFR: feature extractor, template retrieval, restoration network, anomaly scoring). Reading and resizing
images are not included. A folder of `thfr export` is timed as a whole, with its load time and size.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "bench", run, help="time a run on this machine", description=_DESCRIPTION)
    add_run(parser)
    parser.add_argument(
        "--repeats", type=positive, metavar="N", default=30, help="measured passes for a batch size"
    )
    parser.add_argument(
        "--cuda-graph",
        action="store_true",
        help="also time the whole pass as one CUDA graph: launches cost nothing then (needs a GPU)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all)")
    add_device(parser)
    add_precision(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.deploy.exported import is_exported

    if is_exported(args.run_folder):
        return _exported(args)
    import torch

    from thfr.evaluation.latency import measure_latency
    from thfr.methods import Detector

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    detector = Detector.load(args.run_folder, args.device, args.precision)
    batches = [measure_latency(detector, batch, args.repeats, args.cuda_graph) for batch in (1, 16)]
    model, threads = detector.config.summary(), torch.get_num_threads()
    values = {
        "model": {**model, "label": detector.config.label},
        "device": detector.device.type,
        "precision": detector.precision,
        "threads": threads,
        "templates": detector.template_count,
        "batches": batches,
    }
    head = (
        f"{detector.config.label} on {model['backbone']}, {model['size']} x {model['size']}, "
        f"{detector.template_count} templates, {detector.device.type}, {detector.precision}, "
        f"{threads} CPU threads"
    )
    return _result(head, values)


def _exported(args: argparse.Namespace) -> Result:
    from thfr.deploy.exported_figures import measure_exported

    if args.device == "cuda" or args.cuda_graph or args.precision != "fp32":
        args.parser.error("an exported model computes on the CPU, in the precision it was exported in")
    values = measure_exported(args.run_folder, args.repeats, args.threads)
    model, threads = values["model"], values["threads"] or "all"
    head = (
        f"{model['label']} on {model['backbone']} as {values['format']} in {values['precision']}, "
        f"{threads} CPU threads; loads in {values['load_seconds']:.2g} s, {values['bytes'] / 1e6:.1f} MB"
    )
    return _result(head, values)


def _result(head: str, values: dict[str, Any]) -> Result:
    lines = [head]
    for one in values["batches"]:
        lines.append(
            f"\nbatch {one['batch']}: {one['images_per_second']} images/s, peak memory "
            f"{one['peak_memory_bytes'] / 2**20:.0f} MiB, {one['repeats']} passes"
        )
        lines.append(f"{'milliseconds':<14}{'p50':>10}{'p95':>10}{'p99':>10}")
        for stage, times in one["milliseconds"].items():
            lines.append(f"{stage:<14}" + "".join(f"{times[p]:>10.2f}" for p in ("p50", "p95", "p99")))
    return Result("\n".join(lines), values)
