"""A table of one's own images, CSV or JSON lines: ``path``, ``label``, ``mask``, ``split``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thfr.data.base import GOOD, ComponentDataset, Sample
from thfr.data.folders import as_folder, quoted_list
from thfr.data.formats.folder import GOOD_NAMES
from thfr.data.layout import check_ids
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import printable

_GOOD = {*GOOD_NAMES, "0", "false", ""}
_BAD = {"1", "true"}
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_SUFFIXES = (".csv", ".jsonl")


@register_dataset("table")
@dataclass(frozen=True)
class ImageTable(ComponentDataset):
    """``root`` is the table, or a folder that holds one; the category is the table's file name.

    Columns: ``path`` (below the table's folder, or absolute); ``label``, optional: good, ok, normal, 0 or
    nothing are good, 1 is ``bad``, any other word is a kind; ``mask``, optional; ``split``, optional: train,
    validation or test, without it good images are learnt from and bad ones tested. EXIF orientations are
    applied.
    """

    @classmethod
    def open(cls, root: Path, category: str) -> ImageTable:
        table = root / category
        splits: dict[str, list[Sample]] = {"train": [], "validation": [], "test": []}
        problems = []
        for line, row in _rows(table):
            sample = _sample(root, row)
            if isinstance(sample, str):
                problems.append(f"line {line}: {sample}")
            else:
                splits[sample.split].append(sample)
        if problems:
            more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise InputError(f"table: {printable(table)}:\n  " + "\n  ".join(problems[:20]) + more)
        if not splits["train"]:
            raise InputError(f"table: {printable(table)} lists no training image")
        check_ids("table", splits["test"])
        notes = []
        if any(sample.is_anomalous and not sample.mask_paths for sample in splits["test"]):
            notes.append("anomalous images without a mask: pixel figures are undefined")
        train, validation, test = (tuple(splits[name]) for name in ("train", "validation", "test"))
        return cls("table", root, category, train, validation, test, tuple(notes))

    @classmethod
    def locate(cls, root: Path, category: str | None) -> tuple[Path, str]:
        path = Path(root).expanduser().resolve()
        if path.is_file() and category in (None, path.name):
            return path.parent, path.name
        found = cls.categories(path)
        chosen = found[0] if category is None and len(found) == 1 else category
        if chosen not in found:
            listed = quoted_list(found, "none")
            raise InputError(
                f"load_dataset: expected one table, or its name, in {printable(path)}; found {listed}"
            )
        return path, str(chosen)

    @classmethod
    def categories(cls, root: Path) -> list[str]:
        """The tables in ``root``."""
        folder = as_folder(root, "load_dataset")
        return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)

    @property
    def folder(self) -> Path:
        return self.root


def _rows(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The rows with their line numbers."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if table.suffix.lower() == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, dict(json.loads(line))
                return
            reader = csv.DictReader(file)
            if "path" not in (reader.fieldnames or ()):
                raise InputError(
                    f"table: {printable(table)} must have a column path, got {reader.fieldnames}"
                )
            for row in reader:
                yield reader.line_num, dict(row)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"table: cannot read {printable(table)}: {error}") from error


def _sample(folder: Path, row: dict[str, object]) -> Sample | str:
    """The sample of a row, or what is wrong with it."""
    path = folder / _text(row, "path")
    word = _text(row, "label")
    kind = GOOD if word.lower() in _GOOD else "bad" if word.lower() in _BAD else word
    split = _SPLITS.get(_text(row, "split").lower() or ("train" if kind == GOOD else "test"))
    mask = _text(row, "mask")
    if not _text(row, "path") or not path.is_file():
        return f"no such image: {printable(_text(row, 'path')) or '(empty)'}"
    if split is None:
        return f"split must be train, validation or test, got {_text(row, 'split')!r}"
    if split != "test" and kind != GOOD:
        return f"{printable(path.name)} is {kind}, but for {split}: only good images are learnt from"
    if mask and not (folder / mask).is_file():
        return f"no such mask: {printable(mask)}"
    if "/" in kind or "\\" in kind or kind.startswith("."):
        return f"label must be a word that can name a folder, got {kind!r}"
    masks = (folder / mask,) if mask and kind != GOOD else ()
    inside = path.is_relative_to(folder) and ".." not in path.parts
    stem = (
        path.relative_to(folder).with_suffix("").as_posix() if inside else f"{path.parent.name}/{path.stem}"
    )
    return Sample(path, split, kind, stem, masks, oriented=True)


def _text(row: dict[str, object], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value).strip()
