"""Modules of tests that need what a machine may not have: one skip a module, which is not even imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


class Absent(pytest.Module):
    """A module of which nothing is collected but the reason."""

    reason = ""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        pytest.skip(self.reason, allow_module_level=True)


def absent(module_path: Path, parent: pytest.Collector, reason: str) -> pytest.Module:
    made: Absent = Absent.from_parent(parent, path=module_path)
    made.reason = f"{module_path.stem}: {reason}"
    return made
