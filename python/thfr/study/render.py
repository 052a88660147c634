"""Tables as Markdown, LaTeX (booktabs) and CSV, and all that is known of their rows as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thfr.io import atomic_write_json, atomic_write_text
from thfr.io.names import csv_text
from thfr.study.published import KINDS
from thfr.study.tables import Line, Table, Tables, Value

_KIND_NAMES = dict(zip(KINDS, ("structural", "logical", "mean"), strict=True))
_MISSING = "-"


def write_tables(tables: Tables, out: Path) -> list[Path]:
    """Write ``out/tables.md``, ``.tex``, ``.csv`` and ``.json``; gives their paths."""
    texts = {"md": as_markdown(tables), "tex": as_latex(tables), "csv": as_csv(tables)}
    for suffix, text in texts.items():
        atomic_write_text(out / f"tables.{suffix}", text)
    atomic_write_json(out / "tables.json", as_values(tables))
    return [out / f"tables.{suffix}" for suffix in (*texts, "json")]


def as_values(tables: Tables) -> dict[str, Any]:
    """Plain values of everything, for JSON."""
    return {
        "tables": [
            {
                "title": table.title,
                "dataset": table.dataset,
                "figure": table.figure,
                "rows": [asdict(line) for line in table.lines],
            }
            for table in tables.tables
        ],
        "notes": tables.notes,
        "rows": tables.rows,
    }


def as_markdown(tables: Tables) -> str:
    """The best figure of a column bold, the second best underlined; footnotes and origins at the end."""
    parts = []
    for table in tables.tables:
        head = _head(table)
        rows = [
            [_method(line), *_kind(table, line), *_cells(table, line, _mark_markdown)] for line in table.lines
        ]
        ruler = ["---"] * len(head)
        parts += [f"## {table.title}", "", *(f"| {' | '.join(row)} |" for row in (head, ruler, *rows)), ""]
    parts += [*(f"- {note}" for note in tables.notes), ""]
    for line in _origins(tables):
        parts.append(f"- {line}")
    return "\n".join(parts) + "\n"


def as_latex(tables: Tables) -> str:
    """A ``table*`` for each table; needs the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables.tables:
        head = [_escape(cell) for cell in _head(table)]
        words = len(head) - len(table.columns)
        parts += [
            r"\begin{table*}", r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_escape(table.title)}, in percent.}}",
            rf"\begin{{tabular}}{{{'l' * words}{'c' * len(table.columns)}}}", r"\toprule",
            f"{' & '.join(head)} \\\\", r"\midrule",
        ]  # fmt: skip
        kind = table.lines[0].kind if table.lines else None
        for line in table.lines:
            if line.kind != kind:
                parts.append(r"\midrule")
            kind = line.kind
            texts = [_escape(text) for text in (_method(line), *_kind(table, line))]
            parts.append(f"{' & '.join([*texts, *_cells(table, line, _mark_latex)])} \\\\")
        parts += [r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""]
    parts += [r"\begin{itemize}\footnotesize", *(rf"\item {_escape(note)}" for note in tables.notes)]
    parts += [r"\end{itemize}", *(f"% {' '.join(line.split())}" for line in _origins(tables))]
    return "\n".join(parts) + "\n"


def as_csv(tables: Tables) -> str:
    """One line a figure, in percent at full precision."""
    lines: list[list[Any]] = [
        ["dataset", "figure", "kind", "method", "published", "category", "mean", "std", "official"]
    ]
    for table in tables.tables:
        for line in table.lines:
            kind = line.kind or ""
            row = [table.dataset, table.figure.format(kind=kind), kind, line.method, line.published]
            for column, value in line.values.items():
                lines.append([*row, column, value.mean, value.std, value.official])
    return csv_text(lines)


def _head(table: Table) -> list[str]:
    kind = ["Anomalies"] if _has_kinds(table) else []
    return ["Method", *kind, *table.columns.values()]


def _has_kinds(table: Table) -> bool:
    return "{kind}" in table.figure


def _method(line: Line) -> str:
    return line.method if line.published else f"{line.method} (measured)"


def _kind(table: Table, line: Line) -> list[str]:
    return [_KIND_NAMES[str(line.kind)]] if _has_kinds(table) else []


def _cells(table: Table, line: Line, mark: Any) -> list[str]:
    cells = []
    for column in table.columns:
        value = line.values.get(column)
        cells.append(_MISSING if value is None else mark(value, table.best(line, column)))
    return cells


def _number(value: float) -> str:
    """One decimal, and 100 without any, as in the paper."""
    text = f"{value:.1f}"
    return "100" if text == "100.0" else text


def _mark_markdown(value: Value, rank: int | None) -> str:
    text = _number(value.mean) + ("" if value.std is None else f" ± {value.std:.1f}")
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(rank or 0, text)
    return text if value.official else f"{text} †"


def _mark_latex(value: Value, rank: int | None) -> str:
    text = _number(value.mean)
    text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(rank or 0, text)
    text += "" if value.std is None else rf"$\pm${value.std:.1f}"
    return text if value.official else rf"{text}$^\dagger$"


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%#_{}$"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "†": r"$^\dagger$",
    }
)


def _escape(text: str) -> str:
    """The text as LaTeX prints it, whatever commands are in it."""
    return text.translate(_LATEX)


def _origins(tables: Tables) -> list[str]:
    """Seeds, hashes and configuration of every measured row, each on one line."""
    lines = []
    for name, origin in tables.rows.items():
        for category, found in origin["categories"].items():
            hashes = ", ".join(f"{split} {one['sha256']}" for split, one in found["data"].items())
            config = json.dumps(found["config"], separators=(",", ":"))
            seeds = " ".join(map(str, found["seeds"]))
            weights = " ".join(found["weights_sha256"])
            lines.append(
                f"{name}: {category}: seeds {seeds}; SHA-256 of weights {weights}, {hashes}; {config}"
            )
    return lines
