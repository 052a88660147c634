"""The methods that are held to the contract, and a small run of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support import toy_method
from thfr.config import RunConfig
from thfr.methods import Detector
from thfr.methods.registry import method_names
from thfr.runs import files

ALL, COUNTS = "thfr+all", "template+counts"  # settings with a state of their own
METHODS = (*method_names(), ALL, COUNTS, toy_method.NAME)
TRAINED = ("cflow", "draem", "gcad", "rd4ad", "student_teacher", "thfr", ALL)  # by gradient descent
SEEDLESS = ("spade", toy_method.NAME)  # which draw nothing
KEEPING = (
    "padim",
    "patchcore",
    "spade",
    "template",
    "thfr",
    ALL,
    COUNTS,
)  # good images, so that more can be taught
OWN_SCORE = ("patchcore", "spade", COUNTS)  # whose image score is not the largest value of the map
HOLDOUT = 0.3

every_method = pytest.mark.parametrize("method", METHODS)
every_trained_method = pytest.mark.parametrize("method", TRAINED)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    detector: Detector[Any]
    config: RunConfig

    @property
    def model(self) -> bytes:
        return (self.folder / files.MODEL).read_bytes()


def same(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
