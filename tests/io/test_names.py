"""Names with bytes, newlines, formulas; 255 bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from thfr import io

ROUGH = os.fsdecode(b"Gr\xf6\xdfe.png")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / ROUGH)
    (path,) = io.list_images(tmp_path)
    assert path.name == ROUGH
    assert io.read_image(path).shape == (4, 4, 3)
    assert io.storable(path.name) == r"Gr\xf6\xdfe.png"
    io.atomic_write_json(tmp_path / "a.json", {"file": io.storable(path.name)})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"file": r"Gr\xf6\xdfe.png"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain ä.png", "plain ä.png"),
        ("a\nb\r\t.png", r"a\nb\r\t.png"),
        ("\x1b[31mred.png", r"\x1b[31mred.png"),
        ("gpj.\u202egood.png", r"gpj.\u202egood.png"),
        (ROUGH, r"Gr\xf6\xdfe.png"),
    ],
)
def test_printable(name: str, shown: str) -> None:
    assert io.printable(name) == shown


def test_printable_in_the_terminals_encoding() -> None:
    assert io.printable("Größe", "ascii") == r"Gr\xf6\xdfe"
    assert io.printable("Größe", "cp1252") == "Größe"
    assert io.printable("件", "cp1252") == r"\u4ef6"
    assert io.printable("Größe", None) == r"Gr\xf6\xdfe"


@given(st.text(max_size=30))
def test_printable_is_one_line_for_every_encoding(name: str) -> None:
    for encoding in ("utf-8", "ascii", "cp1252"):
        shown = io.printable(name.encode("utf-8", "replace").decode(), encoding)
        shown.encode(encoding)
        assert shown == "" or shown.isprintable()


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_csv_cell_is_no_formula(name: str) -> None:
    assert io.csv_cell(name) == f"'{name}"
    assert io.csv_cell(f"a{name}") == f"a{name}"


def test_result_name_fits_any_file_system(tmp_path: Path) -> None:
    assert io.result_name("sub/a.png", ".tiff") == "sub/a.png.tiff"
    long = "ö" * 125 + ".png"  # 254 bytes: the file itself is possible
    found, other = io.result_name(f"sub/{long}", ".tiff"), io.result_name("ö" * 125 + ".jpg", ".tiff")
    assert len(os.fsencode(found.rpartition("/")[2])) <= 255
    assert found.rpartition("/")[2] != other
    with io.atomic_path(tmp_path / found) as temporary:
        temporary.write_text("x")
    assert (tmp_path / found).read_text() == "x"


def test_atomic_write_of_a_name_of_255_bytes(tmp_path: Path) -> None:
    for name in ("a" * 250 + ".json", "." + "b" * 254, "ü" * 125 + ".json"):
        io.atomic_write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
