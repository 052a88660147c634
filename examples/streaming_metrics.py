"""Metrics that are fed batch by batch: exact, within a fixed memory, and merged from several workers.

python examples/streaming_metrics.py --batches 8
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

import thfr_ext
from thfr_ext.metrics import AUPRO, AUROC


def batches(count: int, edge: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Maps fp32 [4,edge,edge] and masks bool of that shape: noise, with a square that stands out a little."""
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        maps = torch.randn(4, edge, edge, generator=generator)
        masks = torch.zeros(4, edge, edge, dtype=torch.bool)
        masks[:2, 20:40, 30:60] = True  # two of the four images have a defect
        yield maps + 1.5 * masks, masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--edge", type=int, default=256, help="edge of the maps in pixels, at least 64")
    arguments = parser.parse_args()

    exact, bounded, image_auroc = AUPRO(limit=0.3), AUPRO(limit=0.3, exact=False), AUROC()
    workers = [AUPRO(limit=0.3), AUPRO(limit=0.3)]
    for number, (maps, masks) in enumerate(batches(arguments.batches, arguments.edge)):
        exact.update(maps, masks)
        bounded.update(maps, masks)
        image_auroc.update(maps.amax((1, 2)), masks.any(2).any(1))
        workers[number % 2].update(maps, masks)
    workers[0].merge_state(workers[1])

    every = list(batches(arguments.batches, arguments.edge))
    at_once = thfr_ext.au_pro(
        torch.cat([maps for maps, _ in every]), torch.cat([masks for _, masks in every]), 0.3
    )
    print(f"AU-PRO  all at once       {at_once:.6f}")
    print(f"AU-PRO  batch by batch    {float(exact.compute()):.6f}")
    print(f"AU-PRO  of two workers    {float(workers[0].compute()):.6f}")
    value = float(bounded.compute())  # sets error_bound
    print(f"AU-PRO  in at most 32 MB  {value:.6f}, proved to be within {bounded.error_bound:.1e}")
    print(f"AUROC   of the images     {float(image_auroc.compute()):.6f}")


if __name__ == "__main__":
    main()
