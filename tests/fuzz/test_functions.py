"""Random arguments, mostly almost right, through every public function and operator.

Allowed: a result of the right shape and dtype, finite where the input is; or one ValueError or TypeError that
begins with the operator's name. torch's own words are allowed where torch refuses before the operator is
reached.
"""

from __future__ import annotations

import pytest
from support.fuzz_driver import FUNCTIONS, OPERATORS, REGISTERED, fuzz

import thfr_ext
from thfr_ext.core import registration

pytestmark = pytest.mark.filterwarnings("ignore:Casting complex values to real")


def test_every_function_and_operator_is_here() -> None:
    functions = set(thfr_ext.__all__) - {"__version__", "build_info", "metrics", "self_check"}
    assert set(FUNCTIONS) == functions | set(thfr_ext.metrics.__all__)
    assert set(REGISTERED) == set(registration.TORCH_PATHS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    call, make, check = FUNCTIONS[name]
    # A metric takes its samples with an operator.
    fuzz(name, call, make, check, rf"{name}: |region_samples: " if name == "AUsPRO" else rf"{name}: ")


@pytest.mark.parametrize("name", REGISTERED)
def test_operators(name: str) -> None:
    make, check = REGISTERED[name]
    fuzz(name, getattr(OPERATORS, name), make, check, rf"{name}: |thfr_ext::{name}\(\) ")
