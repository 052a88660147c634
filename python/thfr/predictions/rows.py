"""Tables that are written row by row, and go on where they broke off: CSV, or Parquet by pyarrow.

Until it is complete a table has another name: ``scores.partial.csv``, or the parts in the folder
``scores.partial``.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from thfr.extras import require
from thfr.io import atomic_path, csv_cell
from thfr.predictions import files

Table = Literal["csv", "parquet"]
COLUMNS = (
    "file", "score", "verdict", "findings", "mean", "max", "height", "width", "error", "notes",
    "findings_json", "category",
)  # fmt: skip
PARTIAL_CSV, PARTIAL = "scores.partial.csv", "scores.partial"


class CsvRows:
    """``scores.csv``; what a spreadsheet would take for a formula is neutralised."""

    def __init__(self, folder: Path) -> None:
        self._partial, self._final = folder / PARTIAL_CSV, folder / files.SCORES_CSV

    def done(self) -> set[str]:
        """The :meth:`key` of each image that has a row; a row that was cut off is cut away."""
        data = self._partial.read_bytes() if self._partial.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self._partial.open("r+b") as file:
                file.truncate(len(whole))
        rows = csv.reader(io.StringIO(whole.decode("utf-8"), newline=""))
        return {row[0] for number, row in enumerate(rows) if number}

    def key(self, name: str) -> str:
        """How a name stands in the column ``file``."""
        return str(_cell(name))

    def open(self) -> None:
        self._file = self._partial.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        if self._partial.stat().st_size == 0:
            self._writer.writerow(COLUMNS)

    def add(self, row: dict[str, Any]) -> None:
        self._writer.writerow([_cell("" if row.get(name) is None else row[name]) for name in COLUMNS])

    def settle(self) -> None:
        """Have the rows on the disk, so that an interruption repeats little."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def count(self) -> dict[str, Any]:
        """``images``, ``failed`` and ``bad`` (None without a threshold): numbers of rows."""
        with self._partial.open(newline="", encoding="utf-8") as file:
            return _counts((row["error"], row["verdict"]) for row in csv.DictReader(file))

    def finish(self) -> Path:
        """Give the table its name."""
        self._partial.replace(self._final)
        return self._final


class ParquetRows:
    """``scores.parquet``, of parts that each hold the rows between two calls of :meth:`settle`.

    Raises:
        InputError: pyarrow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._arrow = require("predict: Parquet", "parquet", "pyarrow")
        self._parquet = require("predict: Parquet", "parquet", "pyarrow.parquet")
        self._parts, self._final = folder / PARTIAL, folder / files.SCORES_PARQUET
        self._waiting: list[dict[str, Any]] = []
        numbers = dict.fromkeys(("score", "mean", "max"), self._arrow.float64())
        numbers |= dict.fromkeys(("findings", "height", "width"), self._arrow.int32())
        self._schema = self._arrow.schema(
            [(name, numbers.get(name, self._arrow.string())) for name in COLUMNS]
        )

    def _written(self) -> list[Path]:
        return sorted(self._parts.glob("*.parquet"))

    def done(self) -> set[str]:
        names: set[str] = set()
        for part in self._written():
            names.update(self._parquet.read_table(part, columns=["file"])["file"].to_pylist())
        return names

    def key(self, name: str) -> str:
        return name

    def open(self) -> None:
        self._parts.mkdir(exist_ok=True)
        self._next = len(self._written())

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append({name: row.get(name) for name in COLUMNS})

    def settle(self) -> None:
        if not self._waiting:
            return
        table = self._arrow.Table.from_pylist(self._waiting, self._schema)
        with atomic_path(self._parts / f"{self._next:08d}.parquet") as path:
            self._parquet.write_table(table, path)
        self._next, self._waiting = self._next + 1, []

    def close(self) -> None:
        """Nothing stays open."""

    def count(self) -> dict[str, Any]:
        tables = (self._parquet.read_table(part, columns=["error", "verdict"]) for part in self._written())
        return _counts((row["error"], row["verdict"]) for table in tables for row in table.to_pylist())

    def finish(self) -> Path:
        with (
            atomic_path(self._final) as path,
            self._parquet.ParquetWriter(path, self._schema) as writer,
        ):
            for part in self._written():
                writer.write_table(self._parquet.read_table(part))
        shutil.rmtree(self._parts)
        return self._final


def _counts(rows: Iterable[tuple[str | None, str | None]]) -> dict[str, Any]:
    """What :meth:`CsvRows.count` gives, of each row's error and verdict."""
    found = Counter("failed" if error else verdict or "" for error, verdict in rows)
    failed, judged = found.pop("failed", 0), found["good"] + found["bad"] > 0
    return {"images": found.total(), "failed": failed, "bad": found["bad"] if judged else None}


def rows_of(table: Table, folder: Path) -> CsvRows | ParquetRows:
    """The writer of a table in a folder."""
    return CsvRows(folder) if table == "csv" else ParquetRows(folder)


def _cell(value: Any) -> Any:
    """As :func:`thfr.io.csv_cell`, on one line: an interrupted file is cut behind its last line break."""
    cell = csv_cell(value)
    return cell.replace("\n", " ").replace("\r", " ") if isinstance(cell, str) else cell
