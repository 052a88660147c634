"""Banks in shards: every search gives the bits of one bank in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from thfr.banks import BankWriter, FaissBank, SearchProcesses, ShardedBank, measured_recall
from thfr.banks.quantised import bounds, quantised
from thfr.errors import InputError

import thfr_ext

METRICS = ["l2", "cosine", "dot"]


def rows_of(count: int, width: int = 24, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).half()
    rows[count // 2] = rows[3]  # equal rows in two shards: the lower index wins
    return rows


def written(folder: Path, rows: torch.Tensor, keys: str = "fp16", metric: str = "l2") -> ShardedBank:
    with BankWriter(folder, rows.shape[1], metric, keys, shard_bytes=2 * rows.shape[1] * 70) as writer:
        for part in rows.float().split(33):
            writer.add(part)
    return ShardedBank(folder)


@pytest.mark.parametrize("keys", ["fp16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_search_of_shards_is_that_of_one_bank(tmp_path: Path, keys: str, metric: str) -> None:
    rows = rows_of(250)
    bank = written(tmp_path / "bank", rows, keys, metric)
    assert (len(bank), bank.index.shards) == (250, (70, 70, 70, 40))
    queries = torch.cat([torch.randn(9, 24), rows[3:4].float(), torch.zeros(1, 24)])
    for k in (1, 5, 90):  # 90: more than a shard holds
        scores, indices = thfr_ext.nearest_templates(queries, rows, k, metric)
        found = bank.search(queries, k)
        assert torch.equal(found[0], scores)
        assert torch.equal(found[1], indices)
    assert torch.equal(bank.rows(torch.tensor([249, 0, 70])), rows[[249, 0, 70]])


def test_codes_take_half_the_bytes_and_few_rows_are_read(tmp_path: Path) -> None:
    """Codes are worth it only if they rule nearly all rows out."""
    rows = rows_of(2000, 64)
    tensors = quantised(rows, "l2")
    assert tensors["codes"].numel() * tensors["codes"].element_size() == rows.numel()
    queries = rows[:8].float() + 0.1
    low, high = bounds(queries, tensors, "l2")
    true = torch.cdist(queries, rows.float())
    assert bool((low <= true).all())
    assert bool((true <= high).all())
    assert float((low <= high.kthvalue(5, dim=1, keepdim=True).values).double().mean()) < 0.02


def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    rows = rows_of(250)
    bank = written(tmp_path / "bank", rows)
    queries = torch.randn(5, 24)
    with SearchProcesses(tmp_path / "bank", 2) as processes:
        found = processes.search(queries, 4)
    for one, other in zip(found, bank.search(queries, 4), strict=True):
        assert torch.equal(one, other)


def test_wrong_rows_and_damaged_banks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^bank: .*bank\.json cannot be read"):
        ShardedBank(tmp_path)
    writer = BankWriter(tmp_path / "bank", 4)
    with pytest.raises(ValueError, match=r"^bank: rows: expected floats \[n,4\], got \[2, 5\]"):
        writer.add(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="fp16 can hold"):
        writer.add(torch.full((1, 4), 1e6))
    with pytest.raises(ValueError, match="at least one, got none"):
        writer.finish()
    writer.add(torch.ones(3, 4))
    bank = writer.finish()
    with pytest.raises(InputError, match=r"expected a new folder, .*bank holds"):
        BankWriter(tmp_path / "bank", 4)
    with pytest.raises(ValueError, match=r"k: expected 1 to 3, got 4"):
        bank.search(torch.zeros(1, 4), 4)
    (tmp_path / "bank" / "shard-00000.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"^bank: .*shard-00000\.safetensors cannot be read"):
        bank.search(torch.zeros(1, 4))
    index = tmp_path / "bank" / "bank.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "keys": "fp4"}))
    with pytest.raises(InputError, match=r"bank\.json is damaged: keys"):
        ShardedBank(tmp_path / "bank")


@pytest.mark.parametrize("metric", METRICS)
def test_a_faiss_index_is_a_bank_with_a_recall(tmp_path: Path, metric: str) -> None:
    pytest.importorskip("faiss", reason="needs thfr-ext[faiss]")
    bank = written(tmp_path / "bank", rows_of(600), "fp16", metric)
    queries = torch.randn(20, 24)  # as long as the rows: with short ones every cell of the index is as near
    flat = FaissBank.build(bank, "Flat")
    assert measured_recall(bank, flat, queries, 3) > 0.99
    scores, _ = bank.search(queries, 3)
    torch.testing.assert_close(flat.search(queries, 3)[0], scores, rtol=1e-3, atol=1e-3)
    few = FaissBank.build(bank, "IVF16,Flat", probes=1)
    few.save(tmp_path / "index.faiss")
    again = FaissBank.load(tmp_path / "index.faiss", bank, probes=1)
    recall = measured_recall(bank, again, queries, 3)
    assert 0.05 < recall < 0.99
    assert recall < measured_recall(
        bank, FaissBank.load(tmp_path / "index.faiss", bank, probes=16), queries, 3
    )
    assert len(again) == 600
    with pytest.raises(InputError, match="is no faiss index"):
        FaissBank.load(tmp_path / "bank" / "bank.json")
