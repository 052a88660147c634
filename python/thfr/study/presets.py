"""The pinned configurations: every field written out, so that no change of a default changes a table."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.methods.registry import config_from_values

_SECTIONS = ("model", "training")


@dataclass(frozen=True)
class Preset:
    """A data set's pinned configuration and seeds; ``categories`` holds what differs in some."""

    default: RunConfig
    seeds: tuple[int, ...]
    categories: dict[str, dict[str, Any]]

    def config(self, category: str) -> RunConfig:
        """The configuration for a category, of the data set or any other."""
        return changed(self.default, self.categories.get(category, {}), f"preset of {category}")


def load_preset(dataset: str) -> Preset:
    """The packaged preset, with what differs in categories of this data set."""
    text = (files("thfr.study") / "presets" / "pinned.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    default = config_from_values(values["default"], "preset")
    return Preset(default, tuple(values["seeds"]), values["categories"].get(dataset, {}))


def changed(config: RunConfig, values: dict[str, Any], source: str) -> RunConfig:
    """``config`` with some fields of its sections ``model`` and ``training`` changed.

    Raises:
        InputError: another section, an unknown field or a value that does not fit; names ``source``.
    """
    merged = config.model_dump(mode="json")
    for section, fields in values.items():
        if section not in _SECTIONS or not isinstance(fields, dict):
            raise InputError(f"config: {source}: expected the sections model and training, got {section!r}")
        merged[section] = merged[section] | fields
    return config_from_values(merged, source)
