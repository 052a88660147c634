"""k-centre greedy over rows that several processes hold."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import view
from thfr_ext.retrieval.checks import first_coreset_index

__all__ = ["CoresetShard", "first_coreset_index"]


class CoresetShard:
    """The rows of one process in :func:`thfr_ext.greedy_coreset` over all of them.

    ``farthest(row)`` takes in a chosen row, of any process, and gives the farthest of the rows here; the one
    that is farthest of all processes (the lowest index on a tie) is the next to choose. On the CPU distances
    are the native kernel's, which depend on the two rows alone: the choice is that of one process, to the
    bit. On a GPU they are sums in fp64 of torch's.

    Args:
        rows: fp32, fp16 or bf16 [n,D], finite; n may be 0.
    """

    def __init__(self, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(
                f"CoresetShard: rows: expected fp32, fp16 or bf16 [n,D], got {rows.dtype} {list(rows.shape)}"
            )
        if not bool(rows.isfinite().all()):
            raise ValueError("CoresetShard: rows: expected numbers, got NaN or infinity")
        self._count = self._left = len(rows)
        # One row more: the newest of the chosen ones, wherever it is from.
        self._rows = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        self._distances = torch.full((self._count + 1,), torch.inf, dtype=torch.float64, device=rows.device)

    def __len__(self) -> int:
        return self._count

    def row(self, index: int) -> Tensor:  # [D]
        return self._rows[index]

    def take(self, index: int) -> None:
        """The row of that index here is chosen: never again."""
        self._distances[index] = -1
        self._left -= 1

    def farthest(
        self,
        row: Tensor,  # [D]
    ) -> tuple[float, int]:
        """The squared distance, to the nearest chosen row, of the row here that is farthest, and its index;
        (-1, -1) where there is none.
        """
        self._rows[-1] = row
        if self._left == 0:
            return -1.0, -1
        if self._rows.device.type == "cpu":
            chosen = torch.tensor([self._count, -1])
            self._distances[-1] = 0  # a row that can be chosen, as the newest one was
            threads = torch.get_num_threads()
            _C.greedy_coreset(view(self._rows), 1.0, view(self._distances), view(chosen), 1, 2, threads)
            best = int(chosen[1])
        else:
            squares = (self._rows[:-1].double() - self._rows[-1].double()).square().sum(1)
            kept = self._distances[:-1]
            kept.copy_(torch.where(kept < 0, kept, torch.minimum(kept, squares)))
            best = int(kept.argmax())
        distance = float(self._distances[best]) if best >= 0 else -1.0
        return (distance, best) if distance >= 0 else (-1.0, -1)
