"""Which methods there are.

A module of :mod:`thfr.methods` is the method of its name, except for the few named below. Its detector
registers itself with :func:`register_method` when the module is imported, which is on first use.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from thfr.config import RunConfig, parse_yaml
from thfr.errors import InputError

_LARGEST = 1 << 16  # bytes of a configuration
_NO_METHODS = {"base", "common", "registry"}


class Method(NamedTuple):
    """A registered method."""

    config: type[RunConfig]
    detector: type[Any]
    """A subclass of :class:`thfr.methods.Detector`."""


_registered: dict[str, Method] = {}
_Class = TypeVar("_Class", bound=type)


def register_method(name: str, config: type[RunConfig]) -> Callable[[_Class], _Class]:
    """Class decorator of a :class:`thfr.methods.Detector`: makes it the method ``name``.

    Args:
        name: as in ``--method`` and ``config.yaml``; inside of this package also the module's name.
        config: its configuration, whose field ``method`` has ``name`` as default.

    Raises:
        ValueError: the name is taken, or is not the configuration's.
    """

    def register(detector: _Class) -> _Class:
        if config.model_fields["method"].default != name:
            raise ValueError(f"register_method: {config.__name__}.method: expected the default {name!r}")
        taken = _registered.get(name)
        if taken is not None and taken.detector.__qualname__ != detector.__qualname__:
            raise ValueError(f"register_method: {name!r} is {taken.detector.__name__} already")
        _registered[name] = Method(config, detector)
        return detector

    return register


def method_names() -> tuple[str, ...]:
    """The names of all methods, in alphabetical order; imports none of them."""
    here = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])} - _NO_METHODS
    return tuple(sorted(here | _registered.keys()))


def _method(name: Any, source: str) -> Method:
    if not isinstance(name, str) or name not in method_names():
        raise InputError(f"config: {source}: method must be one of {', '.join(method_names())}, got {name!r}")
    if name not in _registered:
        import_module(f"thfr.methods.{name}")
    return _registered[name]


def config_class(name: Any, source: str = "method") -> type[RunConfig]:
    """The configuration of a method; InputError, beginning with ``config: source``, if there is none."""
    return _method(name, source).config


def detector_class(name: str) -> type[Any]:
    """The detector of a method, a subclass of :class:`thfr.methods.Detector`; InputError if there is none."""
    return _method(name, "method").detector


def config_from_values(values: dict[str, Any], source: str = "config") -> RunConfig:
    """The configuration of the method that plain ``values`` name (``thfr`` if none); InputError names the
    fields that are wrong.
    """
    return config_class(values.get("method", "thfr"), source).from_values(values, source)


def config_from_yaml(text: str, source: str = "config") -> RunConfig:
    """As :func:`config_from_values`, from YAML text."""
    return config_from_values(parse_yaml(text, source), source)


def read_config(path: Path) -> RunConfig:
    """The configuration in a run folder's ``config.yaml``."""
    if not path.is_file():
        raise InputError(f"config: no such file: {path} (is this a run folder of thfr train?)")
    try:
        if path.stat().st_size > _LARGEST:  # deep nesting would keep the parser busy
            raise OSError(f"it holds {path.stat().st_size} bytes, a configuration less than {_LARGEST}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} cannot be read: {error}") from error
    return config_from_yaml(text, str(path))
