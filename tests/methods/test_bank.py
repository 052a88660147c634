"""The template bank: layout-keeping search, never itself, sub-sampling, files."""

from __future__ import annotations

import pytest
import torch
from thfr.methods.common.bank import TemplateBank
from torch import Tensor


def features(count: int, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes = ((4, 16, 16), (6, 8, 8), (8, 4, 4))
    return [torch.rand(count, *shape, generator=rng).half() for shape in shapes]


def test_finds_itself_unless_excluded() -> None:
    levels = features(9)
    bank = TemplateBank.build(levels)
    own = torch.arange(9)
    assert torch.equal(bank.nearest(levels)[:, 0], own)
    assert not (bank.nearest(levels, exclude=own)[:, 0] == own).any()
    # exclusion names training images, not indices in the bank, so it also holds in a sub-sampled bank
    small = bank.subsample(0.5, "random", seed=1)
    found = small.nearest(levels, exclude=own, count=2)
    assert found.shape == (9, 2)
    assert not (small.indices[found] == own[:, None]).any()


def test_exclusion_of_absent_rows_excludes_nothing() -> None:
    levels = features(5)
    bank = TemplateBank.build(levels)
    assert torch.equal(bank.nearest(levels, exclude=torch.full((5,), -1))[:, 0], torch.arange(5))
    assert torch.equal(bank.nearest(levels, exclude=torch.full((5,), 77))[:, 0], torch.arange(5))


def test_key_keeps_the_layout() -> None:
    levels = features(2)
    # the same vectors at other locations: an averaged key could not tell it from the first template
    mirrored = [level[:1].flip(3) for level in levels]
    bank = TemplateBank([torch.cat([level, mirror]) for level, mirror in zip(levels, mirrored, strict=True)],
                        torch.arange(3))  # fmt: skip
    assert bank.nearest(mirrored).tolist() == [[2]]
    # an averaged key cannot tell them apart: the tie goes to the lower place
    bank.key_cells = 1
    bank._keys = None
    assert bank.keys.shape == (3, 8)
    assert bank.nearest(mirrored).tolist() == [[0]]


def test_retrieve_gives_the_templates_features() -> None:
    levels = features(4)
    bank = TemplateBank.build(levels)
    found = bank.retrieve([level[2:3] for level in levels])
    assert all(torch.equal(a, b[2:3, None].float()) for a, b in zip(found, levels, strict=True))
    several = bank.retrieve([level[2:3] for level in levels], count=3)
    assert all(torch.equal(a[:, 0], b[:, 0]) for a, b in zip(several, found, strict=True))
    assert [level.shape[:2] for level in several] == [(1, 3)] * 3


@pytest.mark.parametrize("method", ["random", "coreset"])
def test_subsample_size_is_exact_and_repeatable(method: str) -> None:
    bank = TemplateBank.build(features(20))
    small = bank.subsample(0.25, method, seed=3)
    assert len(small) == 5
    assert len(set(small.indices.tolist())) == 5
    assert torch.equal(small.indices, bank.subsample(0.25, method, seed=3).indices)
    assert all(torch.equal(a, b[small.indices]) for a, b in zip(small.features, bank.features, strict=True))
    assert bank.subsample(1.0, method) is bank
    assert len(bank.subsample(0.001, method)) == 1


def test_wrong_arguments_are_named() -> None:
    bank = TemplateBank.build(features(4))
    with pytest.raises(ValueError, match="ratio"):
        bank.subsample(0)
    with pytest.raises(ValueError, match="method"):
        bank.subsample(0.5, "best")
    with pytest.raises(ValueError, match="at least one"):
        TemplateBank([level[:0] for level in features(2)], torch.arange(0))


def test_random_templates_cover_the_bank() -> None:
    bank = TemplateBank.build(features(5))
    drawn = bank.random(200, seed=0, count=2)
    assert drawn.shape == (200, 2)
    assert set(drawn.flatten().tolist()) == set(range(5))
    assert torch.equal(drawn, bank.random(200, seed=0, count=2))


def test_a_query_without_a_template_gets_none() -> None:
    """Index -1, of a query that is not finite on CUDA, is not the last template."""
    bank = TemplateBank.build(features(5))
    found = bank.gather(torch.tensor([[0, -1], [4, 2]]))
    for level, kept in zip(found, bank.features, strict=True):
        assert level.shape == (2, 2, *kept.shape[1:])
        assert torch.equal(level[1, 0], kept[4].float())
    assert found[2][0, 1].isnan().all()  # the level that queries are of
    assert sum(int(level.isnan().sum()) for level in found) == found[2][0, 1].numel()
