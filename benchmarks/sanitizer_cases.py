"""Every operator a few times on small random arguments on the GPU: what compute-sanitizer watches."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))
from fuzz_agree import compare
from fuzz_driver import OPERATORS

from thfr_ext import _library

for name in _library.CUDA_KERNELS:
    compare(name, getattr(OPERATORS, name), lambda tensor: tensor.cuda(), cases=8)
    print(name, "done", flush=True)
