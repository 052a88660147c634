"""Latency of a whole THFR detector on a GPU: batch 1 and 16, fp32 and fp16, with and without a CUDA graph.

    python benchmarks/latency_cuda.py --out FILE.json

The weights are random: they do not matter for time. On a trained run: thfr bench RUN --cuda-graph.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from records import write_records
from thfr.backbones import create_backbone
from thfr.evaluation.latency import measure_latency
from thfr.methods.common.bank import TemplateBank
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig
from thfr.methods.thfr.detector import THFRDetector
from thfr.methods.thfr.making import make_network

TEMPLATES = 350  # as many as a category of MVTec LOCO AD has


def random_detector(
    backbone: str, device: str, precision: Any, size: int, templates: int, **model_options: Any
) -> THFRDetector:
    torch.manual_seed(0)
    model = THFRModelConfig(variant="thfr", backbone=backbone, size=size, pretrained=False, **model_options)
    extractor = create_backbone(backbone, pretrained=False)
    network = make_network(model, extractor.channels)
    detector = THFRDetector(THFRConfig(model=model), extractor, network, None, device, precision)
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    levels = [level.float().expand(templates, -1, -1, -1) for level in detector.features(image)]
    bank = TemplateBank.build([level + 0.1 * torch.randn_like(level) for level in levels])
    detector.bank = bank.to(detector.device)
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=100)
    arguments = parser.parse_args()
    found = []
    for backbone in ("resnet18", "wide_resnet50_2"):
        for precision in ("fp32", "fp16"):
            detector = random_detector(backbone, "cuda", precision, 256, TEMPLATES)
            for batch in (1, 16):
                one = measure_latency(detector, batch, arguments.repeats, cuda_graph=True)
                found.append({"backbone": backbone, "precision": precision, **one})
                stages = {stage: times["p50"] for stage, times in one["milliseconds"].items()}
                print(backbone, precision, f"batch {batch}: p50 ms", stages, flush=True)
            write_records(arguments.out, found)


if __name__ == "__main__":
    main()
