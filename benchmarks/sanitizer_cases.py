"""Every operator a few times on small random arguments on the GPU: what compute-sanitizer watches."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import torch
from support.fuzz_agree import compare, same_neighbours
from support.fuzz_driver import OPERATORS

from thfr_ext import nearest_templates
from thfr_ext.core import registration

for name in registration.CUDA_KERNELS:
    compare(name, getattr(OPERATORS, name), lambda tensor: tensor.cuda(), cases=8)
    print(name, "done", flush=True)

# Rows of several segments, banks of several blocks, lists longer than a warp and than shared memory holds.
SIZES = ((3, 300, 70, 40), (3, 9, 5000, 2), (20, 600, 70, 40), (20, 70, 5000, 2), (2, 200, 9, 100))
for count, rows, width, k in SIZES:
    for dtype in (torch.float32, torch.float16):
        queries, bank = torch.randn(count, width).to(dtype), torch.randn(rows, width).to(dtype)
        found = nearest_templates(queries.cuda(), bank.cuda(), k)
        assert same_neighbours(nearest_templates(queries, bank, k), found)
print("nearest_templates, larger ones, done", flush=True)
