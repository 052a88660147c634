"""Images in tar archives: their names are data, damage is said, and links lead nowhere."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from thfr.errors import InputError
from thfr.io import result_name
from thfr.io.archives import archived, is_archive


def packed(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return path


def contents(source: object, done: set[str] = frozenset(), at_once: int = 2) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for some in archived(source, done, at_once):  # type: ignore[arg-type]
        assert len(some) <= at_once
        for name, file in some:
            assert name not in found
            found[name] = file.read_bytes() if isinstance(file, Path) else str(file)
    return found


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_images_come_in_order_and_others_are_passed_over(tmp_path: Path, suffix: str) -> None:
    members = {
        "0001.json": b"{}",
        "./0001.jpg": b"1",
        "a/0002.PNG": b"2",
        "a/._0002.png": b"x",
        "3.png": b"3",
    }
    path = packed(tmp_path / f"part{suffix}", members, ("link.png",))
    assert is_archive(path)
    found = contents(path)
    assert "expected a file" in str(found.pop("link.png"))
    assert list(found.items()) == [("0001.jpg", b"1"), ("a/0002.PNG", b"2"), ("3.png", b"3")]
    assert list(contents(path, {"0001.jpg", "link.png"})) == ["a/0002.PNG", "3.png"]


def test_several_archives_and_names_that_come_twice(tmp_path: Path) -> None:
    packed(tmp_path / "b.tar", {"x.png": b"b"})
    with tarfile.open(packed(tmp_path / "a.tar", {"x.png": b"1"}), "a") as tar:
        info = tarfile.TarInfo("./x.png")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"2"))
    assert contents(tmp_path / "a.tar") == {"x.png": b"1", "x.png#2": b"2"}
    assert contents(tmp_path / "*.tar") == {"a.tar/x.png": b"1", "a.tar/x.png#2": b"2", "b.tar/x.png": b"b"}


def test_damage_is_said_after_what_could_be_read(tmp_path: Path) -> None:
    whole = packed(tmp_path / "whole.tar", {f"{n}.png": bytes(2000) for n in range(5)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 512 * 12])
    found: list[str] = []
    with pytest.raises(InputError, match=r"^predict: cannot read .*cut\.tar: "):  # noqa: PT012
        for some in archived(tmp_path / "cut.tar", set(), 10):
            found += [name for name, _ in some]
    assert found == ["0.png", "1.png"]
    (tmp_path / "text.tar").write_bytes(b"no archive at all")
    for name, said in {
        "text.tar": "cannot read",
        "none.tar": "cannot read",
        "no-*.tar": "no archive",
    }.items():
        with pytest.raises(InputError, match=said):
            contents(tmp_path / name)
    with pytest.raises(InputError, match="no image"):
        contents(packed(tmp_path / "empty.tar", {"a.txt": b""}))


def test_names_of_members_lead_nowhere() -> None:
    for name in ("../../x.png", "/x.png", "a/../../../x.png"):
        result = result_name(f"maps/{name}", ".tiff")
        assert result.startswith("maps/")
        assert ".." not in result.split("/")
    assert result_name("maps/a..b/x", ".tiff") == "maps/a..b/x.tiff"
