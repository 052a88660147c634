"""What the scoring tests share, as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.scoring_oracle import CASES, Pair, oracle_distance, oracle_map


@pytest.fixture(scope="session")
def distance_oracle() -> Callable[..., np.ndarray]:
    return oracle_distance


@pytest.fixture(scope="session")
def map_oracle() -> Callable[..., np.ndarray]:
    return oracle_map


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Callable[[tuple[int, ...]], Pair]:
    torch.manual_seed(0)
    return CASES[request.param]
