"""The files of a sharded bank: ``bank.json`` and one safetensors file a shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor

from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.plain import Plain
from thfr.runs.json_file import read_object

FORMAT = "thfr-bank-1"
INDEX = "bank.json"
Metric = Literal["l2", "cosine", "dot"]
Keys = Literal["fp16", "int8"]


@dataclass(frozen=True)
class BankIndex(Plain):
    """What ``bank.json`` says."""

    width: int
    """D."""
    metric: Metric
    keys: Keys
    shards: tuple[int, ...]
    """Rows of each."""

    @property
    def rows(self) -> int:
        return sum(self.shards)

    @property
    def starts(self) -> list[int]:
        """The first row of each shard."""
        return [sum(self.shards[:number]) for number in range(len(self.shards))]

    def write(self, folder: Path) -> None:
        atomic_write_json(folder / INDEX, {"format": FORMAT, **self.as_dict()})


def read_index(folder: Path) -> BankIndex:
    """The index of a bank.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / INDEX
    values = read_object(path, "bank")
    if values.get("format") != FORMAT:
        raise InputError(f"bank: {path} is no bank: expected the format {FORMAT}")
    index = BankIndex.from_dict(values, path)
    if index.width < 1 or not index.shards or min(index.shards) < 1:
        raise InputError(f"bank: {path} is damaged: values out of range")
    return index


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


@contextmanager
def opened_shard(folder: Path, number: int, rows: int, width: int) -> Iterator[dict[str, Tensor]]:
    """A shard's tensors, mapped into memory while the block runs: what was read of them can go afterwards.

    Raises:
        InputError: the file is missing or damaged, or of another shape than the index says.
    """
    path = shard_path(folder, number)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"bank: {path} cannot be read: {error}") from error
    found = tensors.get("rows")
    if found is None or tuple(found.shape) != (rows, width):
        got = "none" if found is None else list(found.shape)
        raise InputError(f"bank: {path}: expected rows [{rows},{width}], got {got}")
    try:
        yield tensors
    finally:
        tensors.clear()
