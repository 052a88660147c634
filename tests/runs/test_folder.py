"""The files of a run folder: what is written is read, and what is damaged is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from thfr.errors import InputError
from thfr.runs import files
from thfr.runs.folder import (
    RunData,
    RunMetadata,
    append_log,
    is_claimed,
    is_finished,
    read_data,
    read_metadata,
    write_data,
    write_metadata,
)
from thfr.runs.json_file import read_object

NO_OBJECTS = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"a": "\xf6"}',
    "a list": b"[1, 2]",
    "NaN": b'{"steps": NaN}',
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


@pytest.mark.parametrize("content", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_what_is_no_object_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=r"^x: .*run\.json cannot be read: .*; do this$"):
        read_object(tmp_path / "run.json", "x", "do this")
    with pytest.raises(InputError, match=r"^run: .*run\.json cannot be read"):
        read_metadata(tmp_path)


def test_metadata_come_back_with_a_methods_own_fields(tmp_path: Path) -> None:
    metadata = RunMetadata(steps=3, images=4, train_seconds=0.5, device="cpu", features_mapped=True)
    assert not is_finished(tmp_path)
    write_metadata(tmp_path, metadata)
    assert is_finished(tmp_path)
    assert read_metadata(tmp_path) == metadata
    assert json.loads((tmp_path / files.RUN).read_text()) == {
        "steps": 3, "images": 4, "train_seconds": 0.5, "device": "cpu", "features_mapped": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [({"steps": "many"}, "steps"), ({"images": -1}, "images"), ({"digests": [1]}, "digests"), ({}, "device")],
)
def test_metadata_of_wrong_types_name_the_field(change: dict, message: str, tmp_path: Path) -> None:
    values = {"steps": 1, "images": 2, "train_seconds": 1.0, **({"device": "cpu"} if change else {}), **change}
    (tmp_path / files.RUN).write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"run\.json is damaged: .*{message}"):
        read_metadata(tmp_path)


def test_data_come_back_and_older_notes_too(tmp_path: Path) -> None:
    data = RunData("mvtec_ad", "/data", "nut", ("a", "b"))
    write_data(tmp_path, data)
    assert read_data(tmp_path) == data
    (tmp_path / files.DATA).write_text('{"dataset": "mvtec_ad", "root": "/data", "category": "nut"}')
    assert read_data(tmp_path) == RunData("mvtec_ad", "/data", "nut")
    for wrong in ('{"dataset": "x"}', '{"dataset": 1, "root": "r", "category": "c"}', '{"dataset": "d", "root": "r", "category": "c", "train": 3}'):
        (tmp_path / files.DATA).write_text(wrong)
        with pytest.raises(InputError, match=r"data\.json is damaged"):
            read_data(tmp_path)


def test_a_claim_takes_only_what_is_empty(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path / "new")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / files.CONFIG).write_text("method: thfr\n")
    assert is_claimed(tmp_path / "new")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / files.LOCK).touch()
    assert not is_claimed(tmp_path / "locked")
    with pytest.raises(InputError, match="not empty and not a run folder"):
        is_claimed(tmp_path)
    with pytest.raises(InputError, match="got the file"):
        is_claimed(tmp_path / "new" / files.CONFIG)


def test_the_log_grows_by_lines(tmp_path: Path) -> None:
    append_log(tmp_path, step=1)
    append_log(tmp_path, step=2, loss=0.5)
    lines = (tmp_path / files.LOG).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2, "loss": 0.5}]
