"""The arrows between packages: imports point one way, and there are no circles, not even by late imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"thfr": ROOT / "python" / "thfr", "thfr_ext": ROOT / "thfr_ext"}

#: a package of thfr may import those of the levels below it, and itself
LEVELS: tuple[set[str], ...] = (
    {"errors", "random_streams"},
    {"extras", "plain"},
    {"io", "distributed"},
    {"backbones", "data"},
    {"runs"},
    {"banks", "config", "predictions"},
    {"methods"},
    {"training"},
    {"inference"},
    {"evaluation"},
    {"visualization"},
    {"study", "deploy"},
    {"cli"},
    {"__main__"},
)
RANK = {package: rank for rank, packages in enumerate(LEVELS) for package in packages}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of both packages."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join(parts)] = path
    return found


MODULES = modules()


def imported(name: str) -> Iterator[str]:
    """The project's modules that a module imports anywhere in its text, lazily exported names resolved."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else exporting(node.module, alias.name)


def exporting(package: str, name: str) -> str:
    """The module that a name which a package exports comes from."""
    if MODULES[package].name != "__init__.py":
        return package
    stub = MODULES[package].with_suffix(".pyi")  # of what is imported on first use
    text = (stub if stub.is_file() else MODULES[package]).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            module = f"{package}.{node.module}" if node.level else node.module
            inside = module in MODULES and module != package
            return exporting(module, name) if inside else package
    return package


IMPORTS = {
    name: sorted(set(imported(name)) - {name}) if path.name != "__init__.py" else []
    for name, path in MODULES.items()
}


def test_every_package_has_its_level() -> None:
    packages = {name.split(".")[1] for name in MODULES if name.startswith("thfr.")}
    assert packages <= RANK.keys(), "a new package needs its place in LEVELS"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("thfr.")])
def test_imports_point_down(name: str) -> None:
    here = name.split(".")[1]
    for other in IMPORTS[name]:
        if other.startswith("thfr."):
            there = other.split(".")[1]
            assert there == here or RANK[there] < RANK[here], f"{name} must not import {other}"


def test_the_backend_stands_alone() -> None:
    for name, others in IMPORTS.items():
        if name.startswith("thfr_ext"):
            assert not [other for other in others if other.split(".")[0] == "thfr"], name


def test_no_circles() -> None:
    state: dict[str, bool] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name):
            return
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        for other in IMPORTS[name]:
            visit(other, (*path, name))
        state[name] = True

    for name in MODULES:
        visit(name, ())


def test_an_import_inside_of_a_function_counts() -> None:
    assert "thfr.training.trainer" in IMPORTS["thfr.cli.train"]
