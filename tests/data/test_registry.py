"""Names without heavy imports, and formats of other packages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from thfr.data import dataset_names, load_dataset, register_dataset, registry
from thfr.data.base import ComponentDataset, Sample
from thfr.errors import InputError


def test_names_need_neither_torch_nor_a_format() -> None:
    code = (
        "import sys; from thfr.data.registry import dataset_names; names = dataset_names()\n"
        "assert 'visa' in names and 'folder' in names, names\n"
        "heavy = {'torch', 'numpy', 'PIL', 'thfr.data.formats.visa'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_module_registers_its_own_name() -> None:
    for name in dataset_names():
        assert registry.dataset_class(name).__module__ == f"thfr.data.formats.{name}"


def test_another_packages_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @register_dataset("bottles")
    @dataclass(frozen=True)
    class Bottles(ComponentDataset):
        @classmethod
        def open(cls, root: Path, category: str) -> Bottles:
            sample = Sample(root / category / "train" / "a.png", "train", "good", "a")
            return cls("bottles", root, category, (sample,), (), ())

    (tmp_path / "green" / "train").mkdir(parents=True)
    assert "bottles" in dataset_names()
    assert load_dataset("bottles", tmp_path).category == "green"

    with pytest.raises(ValueError, match=r"'bottles' is .*Bottles already"):

        @register_dataset("bottles")
        class Other(ComponentDataset):
            pass


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name must be one of btad, dagm, folder, .*visa; got 'none'"):
        load_dataset("none", tmp_path)
