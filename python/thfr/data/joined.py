"""Several categories of one data set, to be learnt together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from thfr.data.base import Dataset, Regions, Sample, Verification
from thfr.errors import InputError


@dataclass(frozen=True)
class JoinedDataset(Dataset):
    """The samples of all ``parts``, one category after the other; each says which it is of
    (:attr:`Sample.category`). Figures are the parts' own.
    """

    parts: tuple[Dataset, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Dataset]) -> JoinedDataset:
        """Data sets of one format.

        Raises:
            InputError: fewer than two, or two of one category.
        """
        names = [part.category for part in parts]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice or len(parts) < 2:
            got = f"{twice[0]} twice" if twice else ", ".join(names)
            raise InputError(f"load_dataset: category: expected two different names or more, got {got}")
        train, validation, test = (
            tuple(
                replace(sample, category=part.category) for part in parts for sample in getattr(part, split)
            )
            for split in ("train", "validation", "test")
        )
        notes = tuple(f"{part.category}: {note}" for part in parts for note in part.notes)
        first = parts[0]
        joined = "+".join(names)
        return cls(first.name, first.root, joined, train, validation, test, notes, parts=tuple(parts))

    @classmethod
    def open(cls, root: Path, category: str) -> NoReturn:
        """It is made of others: :meth:`of`."""
        raise InputError("load_dataset: categories are opened one by one before they are joined")

    @property
    def has_masks(self) -> bool:
        return all(part.has_masks for part in self.parts)

    def regions(self, sample: Sample) -> Regions:
        return self._part(sample).regions(sample)

    def mask(self, sample: Sample) -> np.ndarray:
        return self._part(sample).mask(sample)

    def check(self, progress: bool = False) -> Verification:
        found = [part.check(progress) for part in self.parts]
        problems = tuple(problem for one in found for problem in one.problems)
        return Verification(problems, tuple(note for one in found for note in one.notes))

    def _part(self, sample: Sample) -> Dataset:
        return next(part for part in self.parts if part.category == sample.category)
