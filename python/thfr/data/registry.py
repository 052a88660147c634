"""The data set formats by name. Names are known without importing one of them, nor torch.

A format of this package is a module of :mod:`thfr.data.formats` with the format's name. Another package's is
known once its class is decorated, or before that by an entry point of the group ``thfr.datasets``.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from thfr.errors import InputError

if TYPE_CHECKING:
    from thfr.data.base import Dataset

_Class = TypeVar("_Class", bound="type[Dataset]")
_GROUP = "thfr.datasets"
_FORMATS = Path(__file__).parent / "formats"
_registered: dict[str, type[Dataset]] = {}


def register_dataset(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: make a :class:`~thfr.data.Dataset` known by ``name`` to ``load_dataset`` and the
    commands.

    Raises:
        ValueError: another class has that name.
    """

    def register(cls: _Class) -> _Class:
        before = _registered.get(name)
        if before is not None and (before.__module__, before.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(
                f"register_dataset: {name!r} is {before.__module__}.{before.__qualname__} already"
            )
        _registered[name] = cls
        return cls

    return register


def dataset_names() -> tuple[str, ...]:
    """All known names, sorted; imports no format."""
    return tuple(sorted({*_built_in(), *_registered, *_foreign()}))


def dataset_class(name: str) -> type[Dataset]:
    """The class registered by ``name``.

    Raises:
        InputError: unknown name.
    """
    if name not in _registered:
        if name in _built_in():
            import_module(f"thfr.data.formats.{name}")
        elif name in (found := _foreign()):
            found[name].load()
    if name not in _registered:
        raise InputError(f"load_dataset: name must be one of {', '.join(dataset_names())}; got {name!r}")
    return _registered[name]


def load_dataset(
    name: str, root: str | os.PathLike[str], category: str | Sequence[str] | None = None
) -> Dataset:
    """Open a category of a data set, or several, checking its layout; no image is decoded (but for the label
    images of Kolektor's sets, which alone tell good from bad).

    Args:
        name: one of :func:`dataset_names`; their layouts are in docs/inputs.md.
        root: the folder that holds the categories, or the category's own; for ``folder`` the images' own.
        category: needed where ``root`` holds several; for ``folder`` a folder inside ``root``, if given.
            Several names give a :class:`thfr.data.JoinedDataset`.

    Raises:
        InputError: unknown name, missing root or category (those found are listed), wrong layout, empty
            split, missing masks (all of them), bad ``defects_config.json``; a category named twice.
    """
    cls = dataset_class(name)
    if category is not None and not isinstance(category, str):
        from thfr.data.joined import JoinedDataset

        return JoinedDataset.of([cls.open(*cls.locate(Path(root), one)) for one in category])
    return cls.open(*cls.locate(Path(root), category))


def categories(root: str | os.PathLike[str], name: str = "mvtec_ad") -> list[str]:
    """The categories of that format in ``root``, sorted.

    Raises:
        InputError: ``root`` is not a folder, or an unknown name.
    """
    return dataset_class(name).categories(Path(root))


def _built_in() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules([str(_FORMATS)]))


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP)}
