"""The categories of a run on several: which one an image is of, and each one's threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import thfr_ext
from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.io.names import result_name
from thfr.runs import files
from thfr.runs.digest import combined, file_digests
from thfr.runs.json_file import read_object
from thfr.runs.tensors import read_tensors, save_tensors
from thfr.runs.threshold import Threshold

_RUN, _OF = "run", "categories"  # the keys in the file of thresholds


@dataclass(frozen=True)
class Categories:
    """An image is of the category of the training image whose key is nearest (cosine). A key is the mean of
    the coarsest features, the same for every method.
    """

    keys: Mapping[str, Tensor]  # name -> fp32 [N_c,D]
    """Of each category's training images."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """Of those that have one: images found to be of another have no verdict."""

    @classmethod
    def of(
        cls,
        keys: np.ndarray,  # float32 [N,D]
        names: Sequence[str],
    ) -> Categories:
        """Of training images by their keys and the names of their categories."""
        rows = {name: [row for row, own in enumerate(names) if own == name] for name in sorted(set(names))}
        return cls({name: torch.from_numpy(keys[own]).float() for name, own in rows.items()})

    @property
    def names(self) -> list[str]:
        """Sorted."""
        return sorted(self.keys)

    def find(
        self,
        keys: np.ndarray,  # float32 [B,D]
    ) -> list[str]:
        """The category of each image."""
        owners = [name for name in self.names for _ in range(len(self.keys[name]))]
        known = torch.cat([self.keys[name] for name in self.names])
        nearest = thfr_ext.nearest_templates(torch.from_numpy(keys).float(), known, metric="cosine")[1]
        rows = nearest[:, 0].tolist()
        if min(rows, default=0) < 0:
            raise InputError("Categories: keys: expected features that are finite, got one that is not")
        return [owners[row] for row in rows]

    def threshold_of(self, category: str | None) -> Threshold | None:
        """The threshold of images found to be of that category; None before one is set."""
        return None if category is None else self.thresholds.get(category)

    def with_thresholds(self, thresholds: Mapping[str, Threshold]) -> Categories:
        """These categories with other thresholds for those that are named.

        Raises:
            InputError: one is no category of the run.
        """
        unknown = sorted(set(thresholds) - set(self.keys))
        if unknown:
            raise InputError(f"calibrate: category: expected one of {', '.join(self.names)}, got {unknown[0]}")
        found = {**self.thresholds, **thresholds}
        return replace(self, thresholds={name: found[name] for name in sorted(found)})

    def save(self, run: Path) -> None:
        """Write ``categories.safetensors``, and ``thresholds.json`` with the digest of the run."""
        save_tensors(dict(self.keys), run / files.CATEGORIES)
        self.save_thresholds(run)

    def save_thresholds(self, run: Path) -> None:
        """Write ``thresholds.json``, if there are any."""
        if self.thresholds:
            of = {name: one.as_dict() for name, one in self.thresholds.items()}
            atomic_write_json(run / files.THRESHOLDS, {_OF: of, _RUN: combined(file_digests(run))})

    @classmethod
    def load(cls, run: Path, digest: str | None = None) -> Categories | None:
        """The run's categories; None if it is on one.

        Args:
            digest: of the run's files (:func:`thfr.runs.digest.check_files`); None: not checked.

        Raises:
            InputError: a file is damaged, or of another run than that of ``digest``.
        """
        path = run / files.CATEGORIES
        if not path.is_file():
            return None
        keys = read_tensors(path)
        if len(keys) < 2 or len({rows.shape[1:] for rows in keys.values() if rows.ndim == 2 and len(rows)}) != 1:
            raise InputError(f"Categories.load: {path} is damaged: expected keys [N,D] of two categories or more")
        if any(not name or {"/", "\\"} & set(name) or name != result_name(name, "") for name in keys):
            raise InputError(f"Categories.load: {path} is damaged: expected names of folders, got {sorted(keys)}")
        return cls(keys, _thresholds(run / files.THRESHOLDS, sorted(keys), digest))


def _thresholds(path: Path, names: list[str], digest: str | None) -> dict[str, Threshold]:
    if not path.is_file():
        return {}
    held = read_object(path, "Categories.load")
    of = held.get(_OF)
    if not isinstance(of, dict) or not set(of) <= set(names):
        raise InputError(f"Categories.load: {path} is damaged: expected thresholds of {', '.join(names)}")
    if digest is not None and held.get(_RUN) != digest:
        raise InputError(f"Categories.load: {path} was set for another model; remove it and train again")
    return {name: Threshold.from_stored(of[name], path) for name in sorted(of)}
