"""What a whole THFR detector costs beside its extractor: one image, one thread, in turn, in the same process.

    python benchmarks/latency_extractor.py --backbone resnet18 --decoder light --json FILE

Milliseconds of the processor, which other programs change less than the clock's, and the clock's: least and
median. The weights are random: they do not matter for time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency_cuda import random_detector
from records import write_records
from thfr.deploy.export.formats import OPSET
from thfr.deploy.export.graph import trace
from torch import Tensor, nn


class Extractor(nn.Module):
    """The detector's features of images as an exported graph takes them."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector, self.network = detector, detector.extractor

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:  # uint8 [B,H,W,3] -> three [B,C,h,w]
        return tuple(self.detector.features(image.permute(0, 3, 1, 2)))


def runners(program: torch.export.ExportedProgram, pixels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """A call for each backend."""
    import onnxruntime
    import openvino

    found: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        torch.onnx.export(
            program, (), graph, input_names=["image"], opset_version=OPSET, dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        found["onnxruntime fp32"] = lambda: session.run(None, {"image": pixels})
        for precision, name in (("f32", "fp32"), ("bf16", "bf16")):
            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": "1"}
            compiled = openvino.Core().compile_model(graph, "CPU", settings)
            found[f"openvino {name}"] = lambda run=compiled: run([pixels])
    return found


def measure(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each call, round by round, so that all see the same machine."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(repeats + 3):
        for name, call in calls.items():
            call()  # so that its weights are where they are when a line runs it
            before = time.process_time(), time.perf_counter()
            call()
            spent = time.process_time() - before[0], time.perf_counter() - before[1]
            if number >= 3:
                taken[name].append(spent)
    found = {}
    for name, spent in taken.items():
        processor, clock = 1000 * np.array(spent).T
        found[name] = {
            "processor_least": round(float(processor.min()), 1),
            "processor_median": round(float(np.median(processor)), 1),
            "clock_least": round(float(clock.min()), 1),
            "clock_median": round(float(np.median(clock)), 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--decoder", default="light", choices=("full", "light"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--templates", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    detector = random_detector(
        given.backbone, "cpu", "fp32", given.size, given.templates, decoder=given.decoder
    )
    shape = (2, given.size, given.size, 3)
    example = torch.zeros(shape, dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    with torch.no_grad():
        alone = torch.export.export(
            Extractor(detector).eval(), (example,), dynamic_shapes=(batch,), strict=False
        )
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape[1:]), dtype=np.uint8)
    calls: dict[str, Callable[[], Any]] = {}
    for part, program in (("extractor", alone), ("whole", trace(detector, 1.0))):
        calls |= {f"{part}, {name}": call for name, call in runners(program, pixels).items()}
    calls["whole, eager fp32"] = lambda: detector.score_prepared(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    times = measure(calls, given.repeats)
    for name, found in times.items():
        print(f"{name}: {found}", flush=True)
    for name in ("onnxruntime fp32", "openvino fp32", "openvino bf16"):
        whole, extractor = (times[f"{part}, {name}"]["processor_least"] for part in ("whole", "extractor"))
        print(f"{name}: {whole / extractor:.2f} times its extractor")
    if given.json is not None:
        rows = [{"name": name, **found} for name, found in times.items()]
        write_records(given.json, {**vars(given), "json": None, "times": rows})


if __name__ == "__main__":
    main()
