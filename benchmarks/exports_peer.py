"""Exported models beside anomalib's, one image of 256 x 256, one thread, in one process, in turn.

anomalib has pins of its own, so its models are written from an environment of its own (`pip install
anomalib==2.7.0 onnx onnxscript`), with random weights and bank: only time counts.

    PEER/bin/python benchmarks/exports_peer.py write PEERS --bank 4096
    python benchmarks/exports_peer.py time PEERS DIR... --json FILE

DIR: folders of `thfr export`. Prints milliseconds of the clock, median and 95 %, and of the processor,
median, which other programs change less; decoding is not in them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 256


def write_peers(out: Path, bank: int) -> None:
    import torch
    from anomalib.models import EfficientAd, Patchcore

    torch.manual_seed(0)
    patchcore = Patchcore(backbone="resnet18", layers=("layer2", "layer3"), pre_trained=False)
    patchcore.model.memory_bank = torch.rand(bank, 384)  # channels of layer2 and layer3
    efficient = EfficientAd(model_size="small")
    for name, model in (("anomalib PatchCore, ResNet-18", patchcore), ("anomalib EfficientAD-S", efficient)):
        # batches of one: some of its exports are otherwise fixed at the two of the example
        model.eval().to_onnx(out / name, input_size=(SIZE, SIZE), dynamic_shapes=({},))


def runners(peers: Path, folders: list[Path]) -> dict[str, Callable[[], Any]]:
    """A call by name for each model: anomalib's in both runtimes, ours in the format of their folder."""
    import onnxruntime
    import openvino
    from thfr.deploy.exported import load

    found: dict[str, Callable[[], Any]] = {}
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for folder in sorted(path for path in peers.iterdir() if path.is_dir()):
        (graph,) = folder.rglob("model.onnx")
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0].name
        found[f"{folder.name} | onnx"] = lambda run=session.run, name=entry: run(None, {name: image})
        for precision in ("f32", "bf16"):
            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": "1"}
            compiled = openvino.Core().compile_model(graph, "CPU", settings)
            found[f"{folder.name} | openvino {precision}"] = lambda run=compiled: run([image])
    for folder in folders:
        model = load(folder, threads=1)
        kind = f"{model.metadata['format']} {model.precision}"
        name = f"{model.label}, {model.metadata['model'].get('backbone', '')} | {kind}"
        found[name] = lambda run=model.score_prepared: run(pixels)
    return found


def measure(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each call, of clock and processor, round by round, so that all see the same machine."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(2 + repeats):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            spent = (1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor))
            if number >= 2:
                taken[name].append(spent)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("write", help="export anomalib's models; in its environment")
    step.add_argument("peers", type=Path)
    step.add_argument("--bank", type=int, default=4096, help="rows of PatchCore's bank (default: 4096)")
    step = steps.add_parser("time", help="time them beside exported folders")
    step.add_argument("peers", type=Path)
    step.add_argument("folders", nargs="*", type=Path, metavar="DIR")
    step.add_argument("--repeats", type=int, default=40)
    step.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.step == "write":
        write_peers(args.peers, args.bank)
        return
    rows = []
    for name, taken in measure(runners(args.peers, args.folders), args.repeats).items():
        model, kind = name.split(" | ")
        clock, processor = zip(*taken, strict=True)
        p50, p95 = (round(float(np.percentile(clock, p)), 1) for p in (50, 95))
        own = round(float(np.median(processor)), 1)
        rows.append({"model": model, "format": kind, "p50": p50, "p95": p95, "cpu_p50": own})
        print(f"| {model} | {kind} | {p50} ({p95}) | {own} |")
    if args.json is not None:
        args.json.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
