"""Work shared by threads."""

from __future__ import annotations

import pytest
from thfr.data import parallel


def test_items_are_handed_out_in_blocks_and_answered_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, a hundred thousand images took 170 MB while they waited."""
    monkeypatch.setattr(parallel, "BLOCK", 4)
    begun: list[int] = []

    def square(item: int) -> int:
        begun.append(item)
        if item == 9:
            raise ValueError("nine")
        return item * item

    assert parallel.parallel_map(square, range(9), threads=3) == [item * item for item in range(9)]
    begun.clear()
    with pytest.raises(ValueError, match="nine"):
        parallel.parallel_map(square, range(30), threads=3)
    assert max(begun) < 12
