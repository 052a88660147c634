"""What README and documentation show works: Python blocks run, command lines parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from thfr.cli import app
from thfr.data.registry import dataset_names
from thfr.methods import method_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of these languages."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def command_lines() -> Iterator[tuple[str, str]]:
    """Page and line of every call of thfr that a shell block shows."""
    for page in PAGES:
        for block in blocks(page, "bash", "console", "sh", ""):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("thfr "):
                    yield named(page), line


COMMANDS = list(command_lines())


def test_there_is_something_to_test() -> None:
    assert len(COMMANDS) >= 20
    assert sum(bool(blocks(page, "python")) for page in PAGES) >= 4


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8 * 1024


def test_every_method_has_its_row() -> None:
    rows = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    here = {path.stem for path in (ROOT / "python" / "thfr" / "methods").iterdir()}
    own = here.intersection(method_names())
    assert len(own) >= 9
    for name in own:
        assert f"| `{name}` |" in rows, name


def test_every_data_set_format_has_its_row() -> None:
    rows = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    formats = {path.stem for path in (ROOT / "python" / "thfr" / "data" / "formats").glob("[a-z]*.py")}
    assert {"folder", "mvtec_ad", "mvtec_loco"} <= formats <= set(dataset_names())
    for name in formats:
        assert f"| `{name}` |" in rows, name


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """A page's blocks are one script, in order."""
    script = "\n".join(blocks(page, "python"))
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "line"), COMMANDS, ids=[f"{page}-{number}" for number, (page, _) in enumerate(COMMANDS)]
)
def test_command_lines_parse(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options exist and values are of the right kind; nothing is run."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)[1:]
    for word in words[1:]:  # the folders and files that it may name
        path = tmp_path / word.rpartition("=")[2].lstrip("/")
        if path.name == "FILE":
            path.touch()
        elif not word.startswith("-"):
            path.mkdir(parents=True, exist_ok=True)
    app.build_parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_local_links_lead_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{named(page)}: {target}"
