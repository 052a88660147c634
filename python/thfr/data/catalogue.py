"""Find a data set's category on disk and open it."""

from __future__ import annotations

import os
from pathlib import Path

from thfr.data.base import Dataset, as_folder, quoted_list, subfolders
from thfr.data.folder import open_folder
from thfr.data.mvtec_ad import open_mvtec_ad
from thfr.data.mvtec_loco import open_mvtec_loco
from thfr.errors import InputError

DATASETS = ("mvtec_ad", "mvtec_loco", "folder")


def load_dataset(name: str, root: str | os.PathLike[str], category: str | None = None) -> Dataset:
    """Open one category of a data set, checking its layout; no image is decoded.

    Args:
        name: ``mvtec_ad``, ``mvtec_loco`` (the official layouts) or ``folder`` (any images, all good).
        root: the folder that holds the categories, or the category's own; for ``folder`` the images' own.
        category: needed where ``root`` holds several; for ``folder`` a folder inside ``root``, if given.

    Raises:
        InputError: unknown name, missing root or category (those found are listed), wrong layout, empty
            split, missing mask, bad ``defects_config.json``.
    """
    if name not in DATASETS:
        raise InputError(f"load_dataset: name must be one of {', '.join(DATASETS)}; got {name!r}")
    folder = as_folder(root, "load_dataset")
    if name == "folder":
        return open_folder(folder if category is None else _named(folder, category))
    chosen = _category_folder(folder, category)
    opener = open_mvtec_ad if name == "mvtec_ad" else open_mvtec_loco
    return opener(chosen.parent, chosen.name)


def categories(root: str | os.PathLike[str]) -> list[str]:
    """The names of the folders in ``root`` that hold a ``train`` folder, sorted.

    Raises:
        InputError: ``root`` is not a folder.
    """
    return [path.name for path in subfolders(as_folder(root, "categories")) if (path / "train").is_dir()]


def _category_folder(folder: Path, category: str | None) -> Path:
    if (folder / "train").is_dir() and category in (None, folder.name):
        return folder
    if category is not None:
        return _named(folder, category)
    found = categories(folder)
    if len(found) == 1:
        return folder / found[0]
    if not found:
        raise InputError(
            f"load_dataset: expected {folder} to be a category (with train/good) or to hold some, "
            f"got {quoted_list([path.name for path in subfolders(folder)], 'no folder')}"
        )
    raise InputError(f"load_dataset: category must be given, {folder} holds {quoted_list(found, 'none')}")


def _named(folder: Path, category: str) -> Path:
    present = [path.name for path in subfolders(folder)]
    if category not in present:  # also keeps "", ".." and paths out
        found = quoted_list(present, "none")
        raise InputError(f"load_dataset: no category {category!r} in {folder}; found {found}")
    return folder / category
