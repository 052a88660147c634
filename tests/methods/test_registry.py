"""The registry of methods: settings that are refused, names, what is known before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support import toy_method
from thfr.errors import InputError
from thfr.methods.registry import config_from_values, config_from_yaml


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    with toy_method.registered():
        yield


@pytest.mark.parametrize(
    ("method", "section", "field", "value"),
    [
        ("spade", "model", "image_neighbours", 0),
        ("spade", "model", "stride", 2),
        ("spade", "training", "epochs", 3),
        ("padim", "model", "regularisation", 0),
        ("padim", "model", "dimension", 0),
        ("patchcore", "model", "neighbourhood", 4),
        ("patchcore", "model", "bank_ratio", 0),
        ("patchcore", "model", "dimension", 33),
        ("patchcore", "training", "candidates", 0),
        ("rd4ad", "model", "blocks", 0),
        ("rd4ad", "model", "block", "dense"),
        ("rd4ad", "training", "loss", "l2"),
        ("student_teacher", "model", "students", 1),
        ("student_teacher", "model", "levels", []),
        ("gcad", "model", "levels", [2, 2]),
        ("gcad", "model", "levels", [4]),
        ("gcad", "training", "normalisation_share", 0.0),
        ("gcad", "training", "weight_decay", -1.0),
        ("cflow", "model", "position_channels", 6),
        ("cflow", "training", "precision", "bf16"),
        ("thfr", "model", "variant", "best"),
    ],
)
def test_wrong_settings_are_named(method: str, section: str, field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{section}\.{field}"):
        config_from_values({"method": method, section: {field: value}})


def test_an_unknown_method_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"method must be one of cflow, .*toy, got 'resnet'"):
        config_from_values({"method": "resnet"})
    with pytest.raises(InputError, match="mapping"):
        config_from_yaml("[]")


def test_a_name_is_registered_once_and_is_its_configurations() -> None:
    class Other(toy_method.ToyDetector):
        pass

    with pytest.raises(ValueError, match="'toy' is ToyDetector already"):
        toy_method.register_method("toy", toy_method.ToyConfig)(Other)
    with pytest.raises(ValueError, match=r"ToyConfig\.method: expected the default 'other'"):
        toy_method.register_method("other", toy_method.ToyConfig)(Other)


def test_names_are_known_without_torch() -> None:
    script = (
        "import sys; from thfr.methods import method_names\n"
        "assert 'patchcore' in method_names()\n"
        "assert not {'torch', 'timm'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
