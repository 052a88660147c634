"""The ways a search may go on CUDA, forced on small arguments; what the tests of all of them use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.device import EMULATED, Device
from support.retrieval_oracle import KINDS, METRICS, check, rows
from support.scoring_cases import misaligned
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from thfr_ext.retrieval import cuda as retrieval_cuda

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
#: of queries and bank
PAIRS = (
    *((t, t) for t in DTYPES),
    (torch.float32, torch.float16),
    (torch.float32, torch.bfloat16),
)


def take(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search goes this way, in several blocks."""
    limits = {"strips": (2**30, 64), "products": (0, 64), "sorts": (2**30, 0)}
    few, listed = limits[path]
    monkeypatch.setattr(retrieval_cuda, "FEW_QUERIES", few)
    monkeypatch.setattr(retrieval_cuda, "MOST_LISTED", listed)
    monkeypatch.setattr(retrieval_cuda, "PRODUCT_BYTES", 2048)
    monkeypatch.setattr(retrieval_cuda, "PACKED_BYTES", 32768)
    monkeypatch.setattr(retrieval_cuda, "MOST_QUERIES", 4)


PATHS = ("strips", "products", "sorts")


def apart(t: Tensor) -> Tensor:
    """Rows that are further apart in memory than they are long, still of aligned 16-byte pieces."""
    memory = torch.full((len(t), t.shape[1] + 8 + -t.shape[1] % 8), torch.nan, dtype=t.dtype)
    return memory[:, : t.shape[1]].copy_(t)


def every_other(t: Tensor) -> Tensor:
    memory = torch.full((len(t), 2 * t.shape[1]), torch.nan, dtype=t.dtype)
    return memory[:, ::2].copy_(t)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "misaligned": misaligned,
    "apart": apart,
    "every other": every_other,
    "transposed": lambda t: t.mT.contiguous().mT,
    "every third row": lambda t: t.repeat_interleave(3, 0)[::3],
}


class Way(Device):
    """A device, and a way that a search goes there. ``queries``: as many as lead to it."""

    def __init__(self, name: str, queries: int) -> None:
        super().__init__(name)
        self.queries = queries

    def search(
        self, queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The search, whose result is checked against the definition."""
        found: tuple[Tensor, Tensor] = self.nearest_templates(queries, bank, k, metric, exclude)
        check(queries, bank, k, metric, found, exclude)
        return found

    def of(self, large: Any, small: Any) -> Any:
        """What the CPU takes, and what the emulator takes, which is slow."""
        return small if self.name.startswith("order") else large


#: on the CPU up to four queries stream the bank, more go through the packed product
WAYS = [pytest.param(("cpu", 3, None), id="cpu few"), pytest.param(("cpu", 40, None), id="cpu many")]
if EMULATED:
    WAYS += [pytest.param(("order1", 3, p), id=f"order1 {p}", marks=pytest.mark.emulated) for p in PATHS]
if torch.cuda.is_available():
    WAYS += [pytest.param(("cuda", q, None), id=f"cuda {q}", marks=pytest.mark.cuda) for q in (3, 40)]


def search(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The search, whose result is checked against the definition."""
    result = retrieval_cuda.nearest_templates(queries, bank, k, metric, exclude)
    check(queries, bank, k, metric, result, exclude)
    return result


class Watch(TorchDispatchMode):
    """Names of the torch operators that are called, and the most elements of a tensor they make."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.elements = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operator(*args, **(kwargs or {}))
        self.names.add(str(operator))
        if isinstance(made, Tensor) and operator is not torch.ops.aten.expand.default:
            self.elements = max(self.elements, made.numel())
        return made


#: torch operators that wait for the device
WAITING = ("_local_scalar_dense", "nonzero", "item", "unique", "masked_select", "is_nonzero", "equal")

__all__ = ["DTYPES", "KINDS", "LAYOUTS", "METRICS", "PAIRS", "PATHS", "WAITING", "WAYS", "Watch", "Way",
           "check", "rows", "search", "take"]  # fmt: skip
