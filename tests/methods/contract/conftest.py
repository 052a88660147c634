"""One small run of each method, shared by the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import toy_method
from support.contract import HOLDOUT, Run
from support.images import products, write_images
from support.methods import run, small_config


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    with toy_method.registered():
        yield


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("good"), products(10, 0))


@pytest.fixture(scope="session")
def runs(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Method -> its run, made on first use."""

    @cache
    def made(method: str) -> Run:
        folder = tmp_path_factory.mktemp(method) / "run"
        config = small_config(method, holdout=HOLDOUT)
        return Run(folder, run(config, paths, folder), config)

    return made


@pytest.fixture
def fitted(method: str, runs: Any) -> Run:
    return runs(method)
