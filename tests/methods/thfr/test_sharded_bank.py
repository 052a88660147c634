"""Templates on disk: found as those in memory, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from thfr.errors import InputError
from thfr.methods.common.bank import TemplateBank
from thfr.methods.thfr.sharded_bank import INDEX, ShardedTemplateBank, TemplateBankWriter

SHAPES = [(4, 8, 8), (6, 4, 4), (8, 4, 4)]


def levels_of(count: int, seed: int, alike: float = 0.02) -> list[torch.Tensor]:
    """Images that all but look the same: rounded keys cannot tell some of them apart."""
    rng = torch.Generator().manual_seed(seed)
    common = torch.Generator().manual_seed(9)
    return [
        (torch.randn(1, *shape, generator=common) + alike * torch.randn(count, *shape, generator=rng)).half()
        for shape in SHAPES
    ]


@pytest.mark.parametrize("keys", ["fp16", "int8"])
@pytest.mark.parametrize(("cells", "tiles"), [(None, 1), (2, 1), (None, 3)])
def test_it_finds_what_a_bank_in_memory_finds(
    tmp_path: Path, keys: str, cells: int | None, tiles: int
) -> None:
    levels, indices = levels_of(60, 0), torch.arange(60)
    levels[2][41] = levels[2][7]  # equal templates: the first wins
    memory = TemplateBank(levels, indices, cells, tiles)
    writer = TemplateBankWriter(tmp_path / "bank", memory, keys, shard_bytes=10_000)
    for rows in indices.split(13):
        writer.add([level[rows] for level in levels], indices[rows])
    disk = writer.finish()
    assert disk.shards > 3
    assert torch.equal(disk.indices, indices)
    queries = [torch.cat(pair) for pair in zip(levels_of(5, 1), [x[7:8] for x in levels], strict=True)]
    queries = [level.float() for level in queries]
    for count in (1, 3):
        expected = memory.nearest(queries, count=count)
        assert torch.equal(disk.nearest(queries, count=count), expected)
    exclude = torch.tensor([3, 7, -1, 59, 0, 7])
    expected = memory.nearest(queries, exclude, 2)
    assert torch.equal(disk.nearest(queries, exclude, 2), expected)
    for one, other in zip(disk.gather(expected), memory.gather(expected), strict=True):
        assert torch.equal(one, other)
    lost = disk.gather(torch.tensor([-1]))[0]
    assert bool(lost.isnan().all())
    with pytest.raises(ValueError, match="at least one, got none"):
        TemplateBankWriter(tmp_path / "none", memory).finish()


def test_a_damaged_bank_is_refused(tmp_path: Path) -> None:
    levels = levels_of(4, 0)
    writer = TemplateBankWriter(tmp_path / "bank", TemplateBank(levels, torch.arange(4)))
    writer.add(levels, torch.arange(4))
    writer.finish()
    (tmp_path / "bank" / "templates-00000.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"templates-00000\.safetensors cannot be read"):
        ShardedTemplateBank(tmp_path / "bank").gather(torch.tensor([0]))
    (tmp_path / "bank" / INDEX).write_text("{}")
    with pytest.raises(InputError, match=r"templates\.json cannot be read"):
        ShardedTemplateBank(tmp_path / "bank")
