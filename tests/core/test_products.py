"""Products under torch.use_deterministic_algorithms(True): torch's refusal says what to set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from thfr_ext.core.products import product_of
from thfr_ext.retrieval import cuda as retrieval_cuda
from thfr_ext.retrieval import torch_path as retrieval
from thfr_ext.scoring import torch_path as scoring

TORCH = (  # the end of what torch says
    "this operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2. [...] you must "
    "set an environment variable: CUBLAS_WORKSPACE_CONFIG=:4096:8 or CUBLAS_WORKSPACE_CONFIG=:16:8."
)

CALLS: dict[str, Callable[[], Any]] = {
    "nearest_templates": lambda: retrieval.nearest_templates(
        torch.rand(3, 4), torch.rand(90, 4), 2, "cosine", None
    ),
    "nearest_templates of the kernels": lambda: retrieval_cuda._product(
        torch.rand(1, 3, 4), torch.rand(1, 9, 4)
    ),
    "anomaly_map": lambda: scoring.upsample_blur([torch.rand(1, 2, 2)], (4, 4), 1.0, "sum", None),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError(TORCH)

    monkeypatch.setattr(torch, "bmm", refuse)
    monkeypatch.setattr(torch, "matmul", refuse)
    operator = name.split()[0]
    with pytest.raises(RuntimeError, match=f"^{operator}: .*CUBLAS_WORKSPACE_CONFIG=:4096:8"):
        CALLS[name]()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), product_of("x", torch.device("cpu")):
        raise RuntimeError("out of memory")
