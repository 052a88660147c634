"""One process at a time in a folder."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from thfr.errors import InputError
from thfr.runs import files
from thfr.runs.lock import locked

HOLD = (
    "import sys; from pathlib import Path; from thfr.runs.lock import locked\n"
    "with locked(Path(sys.argv[1]), 'other'):\n"
    "    print('locked', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that keeps the folder until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=600)
        process.stdout.close()


def test_a_folder_is_kept_and_left_clean(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with locked(folder, "train"):
        with pytest.raises(InputError, match=r"^train: another process is at work in .*run$"):
            with locked(folder, "train"):
                pass
        assert (folder / files.LOCK).is_file()
    assert list(folder.iterdir()) == []
    with locked(folder, "train"):
        pass


def test_another_process_keeps_it_until_it_ends(tmp_path: Path) -> None:
    with held_by_another(tmp_path), pytest.raises(InputError, match="another process"), locked(tmp_path, "x"):
        pass
    with locked(tmp_path, "x"):
        pass


def test_kill_9_gives_it_back(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as process:
        process.kill()
        process.wait(timeout=600)
        assert (tmp_path / files.LOCK).is_file()
        with locked(tmp_path, "x"):
            pass


def test_patience_waits_for_it(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as process:
        assert process.stdin is not None
        threading.Timer(0.3, process.stdin.close).start()
        with locked(tmp_path, "x", patience=600):
            assert process.wait(timeout=600) == 0


def test_of_many_threads_one_is_in_it_at_a_time(tmp_path: Path) -> None:
    """Also while the lock's file comes and goes."""
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        for _ in range(20):
            with locked(tmp_path, "x", patience=600):
                inside += 1
                most = max(most, inside)
                inside -= 1
                done += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert (most, done) == (1, 80)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"^x: cannot write in .*file"), locked(tmp_path / "file", "x"):
        pass
