"""Every wrong input: one ValueError or TypeError that begins with operator and argument, on both backends."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import thfr_ext
from thfr_ext import reference

X, Y = torch.ones(12, 3), torch.arange(30.0).reshape(10, 3)
NAN, INF = float("nan"), float("inf")


NEAREST = {
    "queries: expected shape [Q,D]": (ValueError, {"queries": torch.ones(3)}),
    "queries: expected [Q,D] with D >= 1": (
        ValueError,
        {"queries": torch.ones(3, 0), "bank": torch.ones(2, 0)},
    ),
    "queries: expected float32": (TypeError, {"queries": torch.ones(3, 3, dtype=torch.int64)}),
    "queries: expected a torch tensor": (TypeError, {"queries": [[1.0, 2.0, 3.0]]}),
    "bank: expected shape [N,D]": (ValueError, {"bank": torch.ones(1, 2, 3)}),
    "bank: expected [N,3]": (ValueError, {"bank": torch.ones(4, 2)}),
    "bank: expected [N,3] on cpu": (ValueError, {"bank": torch.ones(4, 3, device="meta")}),
    "bank: expected [N,D] with N >= 1": (ValueError, {"bank": torch.ones(0, 3)}),
    "bank: expected float32": (TypeError, {"bank": torch.ones(4, 3, dtype=torch.complex64)}),
    "bank: expected the dtype of queries": (TypeError, {"bank": Y.double()}),
    "k: expected 1 to the 10 rows": (ValueError, {"k": 0}),
    "k: expected 1 to the 10 rows of bank": (ValueError, {"k": 11}),
    "k: expected 1 to the 10 rows of bank ([10, 3]": (ValueError, {"k": -3}),
    "k: expected 1 to 9": (ValueError, {"k": 10, "exclude": torch.zeros(12, dtype=torch.int64)}),
    "k: expected 1 to the 10 rows of bank ([10, 3] float32 on cpu), got 1180591620717411303424": (
        ValueError,
        {"k": 2**70},
    ),
    "k: expected an integer, got 2.0": (TypeError, {"k": 2.0}),
    "k: expected an integer, got True": (TypeError, {"k": True}),
    "k: expected an integer, got '1'": (TypeError, {"k": "1"}),
    "metric: expected one of cosine, l2, dot, got None": (ValueError, {"metric": None}),
    "metric: expected one of cosine, l2, dot, got 'cos'": (ValueError, {"metric": "cos"}),
    "exclude: expected one bank row": (ValueError, {"exclude": torch.zeros(11, dtype=torch.int64)}),
    "exclude: expected one bank row (or -1)": (
        ValueError,
        {"exclude": torch.zeros(12, 1, dtype=torch.int64)},
    ),
    "exclude: expected int64": (TypeError, {"exclude": torch.zeros(12)}),
    "exclude: expected device cpu": (
        ValueError,
        {"exclude": torch.zeros(12, dtype=torch.int64, device="meta")},
    ),
    "exclude: expected -1 or a row of the bank, 0 to 9, got 10": (
        ValueError,
        {"exclude": torch.arange(12) - 1},
    ),
    "exclude: expected -1 or a row of the bank, 0 to 9, got -2": (
        ValueError,
        {"exclude": torch.full((12,), -2)},
    ),
}


@pytest.mark.parametrize("message", NEAREST)
def test_nearest(message: str) -> None:
    kind, change = NEAREST[message]
    with pytest.raises(kind, match=r"^" + re.escape(f"nearest_templates: {message}")):
        thfr_ext.nearest_templates(**{"queries": X, "bank": Y, **change})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("count", [2, 12])
@pytest.mark.parametrize(("value", "word"), [(NAN, "NaN"), (INF, "infinity"), (-INF, "infinity")])
def test_not_finite(dtype: torch.dtype, metric: str, count: int, value: float, word: str) -> None:
    for argument in ("queries", "bank"):
        for place in (0, -1):
            tensors = {
                "queries": torch.ones(count, 600, dtype=dtype),
                "bank": torch.ones(900, 600, dtype=dtype),
            }
            tensors[argument][place, place] = value
            row = place % len(tensors[argument])
            message = f"nearest_templates: {argument}: expected finite values, got {word} in row {row} of"
            with pytest.raises(ValueError, match=f"^{message}"):
                thfr_ext.nearest_templates(**tensors, metric=metric)
            with pytest.raises(ValueError, match=f"^{message}"):
                reference.nearest_templates(**tensors, metric=metric)


CORESET = {
    "bank: expected shape [N,D]": (ValueError, {"bank": torch.ones(3)}),
    "bank: expected [N,D] with D >= 1": (ValueError, {"bank": torch.ones(3, 0)}),
    "bank: expected float32": (TypeError, {"bank": torch.ones(3, 3, dtype=torch.int32)}),
    "bank: expected a torch tensor": (TypeError, {"bank": "bank"}),
    "size: expected 1 to the 10 rows": (ValueError, {"size": 0}),
    "size: expected 1 to the 10 rows of bank": (ValueError, {"size": 11}),
    "size: expected 1 to the 0 rows": (ValueError, {"bank": torch.ones(0, 3), "size": 1}),
    "size: expected an integer, got 1.5": (TypeError, {"size": 1.5}),
    "seed: expected an integer, got None": (TypeError, {"seed": None}),
    "seed: expected 0 to 2**63 - 1": (ValueError, {"seed": -1}),
    "bank: expected finite values, got NaN in row 1 of [2, 1]": (
        ValueError,
        {"bank": torch.tensor([[1.0], [NAN]])},
    ),
    "bank: expected finite values, got infinity in row 0": (ValueError, {"bank": np.array([[INF], [2.0]])}),
}


@pytest.mark.parametrize("message", CORESET)
def test_coreset(message: str) -> None:
    kind, change = CORESET[message]
    with pytest.raises(kind, match=r"^" + re.escape(f"greedy_coreset: {message}")):
        thfr_ext.greedy_coreset(**{"bank": Y, "size": 2, **change})


def test_fake_tensors_raise_the_same() -> None:
    with FakeTensorMode() as mode:
        queries, bank = mode.from_tensor(X), mode.from_tensor(Y)
        with pytest.raises(ValueError, match=r"^nearest_templates: k: expected 1 to the 10 rows"):
            torch.ops.thfr_ext.nearest_templates(queries, bank, 11, "l2", None)
        with pytest.raises(ValueError, match=r"^greedy_coreset: size: expected 1 to the 10 rows"):
            torch.ops.thfr_ext.greedy_coreset(bank, 11, 0)
