"""A template bank on disk: features and search keys in mapped shards; a search holds one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import thfr_ext
from thfr.banks import BankWriter, ShardedBank
from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.methods.common.bank import TemplateBank, key_of
from thfr.runs.json_file import read_object
from thfr.runs.tensors import read_tensors, save_tensors

INDEX = "templates.json"
_FORMAT, _KEYS, _ROWS = "thfr-templates-1", "keys", "rows.safetensors"
_SHARD_BYTES = 64 << 20
# Of a cosine with a unit key as fp16: 2^-12 a value, or 2^-25 of one below the normal range, twice for the
# length, and as much again to be safe.
_ROUNDING = 1e-3


class TemplateBankWriter:
    """Writes a bank, some images at a time; ``templates.json`` comes last.

    Args:
        folder: new, or empty.
        keys: ``fp16`` or ``int8``, what a search reads first (:class:`thfr.banks.BankWriter`).
        like: whose kind of key, tiles and weight of places are meant.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        like: TemplateBank,
        keys: Any = "fp16",
        shard_bytes: int = _SHARD_BYTES,
    ) -> None:
        self.folder, self._like, self._keys, self._limit = Path(folder), like, keys, shard_bytes
        self._writer: BankWriter | None = None
        self._waiting: list[list[Tensor]] = []
        self._shards: list[int] = []
        self._rows: list[Tensor] = []
        self._shapes: list[list[int]] = []

    def add(
        self,
        levels: list[Tensor],  # three [n,C_l,H_l,W_l]
        indices: Tensor,  # int64 [n], as those of a TemplateBank
    ) -> None:
        """Append templates.

        Raises:
            InputError: the folder holds something.
            ValueError: features that fp16 cannot hold.
        """
        kept = [level.detach().to("cpu", torch.float16) for level in levels]
        like = self._like
        keys = like._placed(key_of(kept, like.key_cells), indices % like.tiles)
        if self._writer is None:
            self._writer = BankWriter(self.folder / _KEYS, keys.shape[1], "cosine", self._keys, self._limit)
            self._shapes = [list(level.shape[1:]) for level in kept]
        self._writer.add(keys)
        self._rows.append(indices.to(torch.int64).cpu())
        self._waiting.append(kept)
        if sum(level.nbytes for some in self._waiting for level in some) >= self._limit:
            self._write()

    def _write(self) -> None:
        levels = [torch.cat(level) for level in zip(*self._waiting, strict=True)]
        path = _shard(self.folder, len(self._shards))
        save_tensors({f"level{number}": level for number, level in enumerate(levels)}, path)
        self._shards.append(len(levels[0]))
        self._waiting = []

    def finish(self) -> ShardedTemplateBank:
        """Write the last shard and the index.

        Raises:
            ValueError: no template was added.
        """
        if self._writer is None:
            raise ValueError("bank: templates: expected at least one, got none")
        if self._waiting:
            self._write()
        self._writer.finish()
        save_tensors({"rows": torch.cat(self._rows)}, self.folder / _ROWS)
        like = self._like
        values: dict[str, Any] = {
            "key_cells": like.key_cells,
            "tiles": like.tiles,
            "place_weight": like.place_weight,
        }
        values |= {"shards": self._shards, "levels": self._shapes}
        atomic_write_json(self.folder / INDEX, {"format": _FORMAT, **values})
        return ShardedTemplateBank(self.folder)


class ShardedTemplateBank(TemplateBank):
    """A bank that :class:`TemplateBankWriter` wrote, for scoring: it finds what the same templates in memory
    find. Features are read when they are asked for; ``features`` itself there is not.

    Raises:
        InputError: no such bank there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        values = read_object(self.folder / INDEX, "bank")
        try:
            if values["format"] != _FORMAT:
                raise ValueError(f"expected the format {_FORMAT}")
            self.shapes = [tuple(map(int, shape)) for shape in values["levels"]]
            self._shards = [int(rows) for rows in values["shards"]]
            self.key_cells = values["key_cells"]
            self.tiles, self.place_weight = int(values["tiles"]), float(values["place_weight"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"bank: {self.folder / INDEX} cannot be read: {error}") from error
        self.indices = read_tensors(self.folder / _ROWS)["rows"]
        self._bank = ShardedBank(self.folder / _KEYS)
        self._own, self._added = int((self.indices >= 0).sum()), None
        if not len(self.indices) == sum(self._shards) == len(self._bank):
            raise InputError(f"bank: {self.folder}: its parts hold different numbers of templates")

    @property
    def width(self) -> int:
        """Numbers in a search key."""
        return self._bank.width

    @property
    def shards(self) -> int:
        """Files with features."""
        return len(self._shards)

    @property
    def added(self) -> TemplateBank | None:
        """None: `thfr bank` writes what training saw."""
        return None

    def to(self, device: torch.device | str) -> ShardedTemplateBank:
        """Itself: it is on disk, and gives features where the indices are."""
        return self

    def _search(self, queries: Tensor, own: Tensor | None, count: int) -> Tensor:
        """As in memory, to the bit: rounded keys say which templates may be the nearest, and those are
        compared by their features.
        """
        rows = [-1] * len(queries) if own is None else own.tolist()
        pairs = zip(queries.cpu(), rows, strict=True)
        return torch.stack([self._nearest_of_one(*pair, count) for pair in pairs]).to(queries.device)

    def _nearest_of_one(self, query: Tensor, own: int, count: int) -> Tensor:
        wanted = min(count + 8, len(self))
        while True:
            scores, rows = self._bank.search(query[None], wanted)
            candidates = rows[0][rows[0] != own].sort().values
            best, places = thfr_ext.nearest_templates(
                query[None], self._keys_of(candidates), k=min(count, len(candidates)), metric="cosine"
            )
            # Whatever was not asked for is worse than the last candidate by its rounded key.
            if wanted == len(self) or float(scores[0, -1]) + _ROUNDING < float(best[0, -1]):
                return candidates[places[0]]
            wanted = min(2 * wanted, len(self))

    def _keys_of(self, rows: Tensor) -> Tensor:
        coarse = self._read(rows, [2])[0]
        return self._placed(key_of([coarse] * 3, self.key_cells), self.indices[rows] % self.tiles)

    def gather(
        self,
        indices: Tensor,  # int64 [...]
    ) -> list[Tensor]:  # three fp32 [...,C_l,H_l,W_l]
        flat = indices.flatten().cpu()
        found = self._read(flat.clamp_min(0), [0, 1, 2])
        return [
            level.float()
            .masked_fill((flat < 0).reshape(-1, 1, 1, 1), torch.nan)
            .unflatten(0, indices.shape)
            .to(indices.device)
            for level in found
        ]

    def _read(self, rows: Tensor, levels: list[int]) -> list[Tensor]:
        """fp16 [n,C_l,H_l,W_l] of these templates alone."""
        found = [torch.empty(len(rows), *self.shapes[level], dtype=torch.float16) for level in levels]
        starts = torch.tensor([0, *self._shards]).cumsum(0)
        of = torch.bucketize(rows, starts, right=True) - 1
        for number in of.unique().tolist():
            with _opened(_shard(self.folder, number)) as file:
                parts = [file.get_slice(f"level{level}") for level in levels]
                for place in (of == number).nonzero()[:, 0].tolist():
                    row = int(rows[place] - starts[number])
                    for kept, part in zip(found, parts, strict=True):
                        kept[place] = part[row : row + 1][0]
        return found


def _shard(folder: Path, number: int) -> Path:
    return folder / f"templates-{number:05d}.safetensors"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"bank: {path} cannot be read: {error}") from error
