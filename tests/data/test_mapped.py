"""Pixels in a file: what was given back is read again, and takes no memory meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from support.images import clouds, write_images
from thfr.data import load_images
from thfr.data.images import load_inputs
from thfr.data.mapped import give_back, mapped_bytes, pieces
from thfr.random_streams import drawn


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_was_read_takes_no_memory(tmp_path: Path) -> None:
    values = mapped_bytes(64 << 20, tmp_path).view(64, -1)
    values[:] = torch.arange(64, dtype=torch.uint8)[:, None]
    held = resident()
    give_back(values)
    assert held - resident() > 60 << 20
    for number, piece in enumerate(pieces(values, 16)):
        assert int(piece.float().mean(1).sum()) == sum(range(16 * number, 16 * number + 16))
        assert held - resident() > 40 << 20
    plain = torch.ones(5)
    give_back(plain)
    assert plain.sum() == 5
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="in memory there")
def test_images_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", clouds(5, 0))
    found = load_inputs(paths, (64, 64), budget=1000, folder=tmp_path).images
    assert torch.equal(found, load_images(paths, (64, 64)))


def test_numbers_drawn_of_very_many_are_different() -> None:
    for total, count in ((100, 30), (1 << 26, 5000), (1 << 25, 1)):
        numbers = drawn(total, count, torch.Generator().manual_seed(0))
        assert len(numbers.unique()) == count
        assert torch.equal(numbers, numbers.sort().values)
        assert 0 <= int(numbers[0]) <= int(numbers[-1]) < total
