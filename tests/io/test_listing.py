"""No product that nobody looks at: links, unreadable folders, unknown files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from thfr import io
from thfr.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(folder: Path, paths: tuple[Path, ...] | list[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "parts", tmp_path / "camera"
    touch(folder / "a.png")
    touch(folder / "line" / "b.png")
    touch(elsewhere / "c.png")
    (folder / "camera 2").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (folder / "line" / "loop").symlink_to(folder)
    (folder / "same line").symlink_to(folder / "line")
    found = io.find_images(folder, recursive=True)
    assert names(folder, found.images) == ["a.png", "again/c.png", "line/b.png"]
    assert names(folder, found.repeated) == ["camera 2", "line/loop", "same line"]
    assert "3 file(s) or folder(s)" in found.notes(folder)[0]


def test_links_to_files(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    touch(tmp_path / "there.png")
    folder.mkdir()
    (folder / "good.png").symlink_to(tmp_path / "there.png")
    (folder / "broken.png").symlink_to(tmp_path / "gone.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    assert names(folder, io.list_images(folder)) == ["broken.png", "good.png", "itself.png"]
    for name in ("broken", "itself"):
        with pytest.raises(InputError, match=rf"{name}\.png \(a link to nothing\)"):
            io.read_image(folder / f"{name}.png")


def test_unreadable_folders_are_errors_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        touch(tmp_path / name)
    real = os.scandir

    def guarded(path: os.PathLike[str]):
        if Path(path).name in ("a", "c"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(
        InputError, match=r"cannot read 2 folder\(s\): .*/[ac]: Permission denied; .*/[ac]: Perm"
    ):
        io.list_images(tmp_path, recursive=True)


def test_ignored_files_are_counted_and_named(tmp_path: Path) -> None:
    for name in (
        "a.png",
        "b.heic",
        "c.raw",
        "sub/d.cr2",
        "Thumbs.db",
        "sub/.DS_Store",
        "desktop.ini",
        "._a.png",
    ):
        touch(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    found = io.find_images(tmp_path, recursive=True)
    assert names(tmp_path, found.images) == ["a.png"]
    assert names(tmp_path, found.ignored) == ["b.heic", "c.raw", "pipe.png", "sub/d.cr2"]
    (note,) = found.notes(tmp_path, limit=2)
    assert note.endswith("not read (no image by its suffix): b.heic, c.raw and 2 more")
    assert note.startswith("4 file(s)")


def test_nothing_ignored_no_note(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert io.find_images(tmp_path).notes(tmp_path) == []
