"""The transcribed figures: against the supplement itself, and against themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from thfr.study.published import (
    mean_discrepancies,
    methods,
    official_categories,
    official_metadata,
    published_tables,
)


def test_the_printed_means_are_those_of_the_rows_but_for_one() -> None:
    assert mean_discrepancies() == [(4, "CFLOW", 97.9, 97.82)]


def test_every_row_is_whole() -> None:
    tables = {table.number: table for table in published_tables()}
    assert sorted(tables) == [1, 2, 3, 4, 5]
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows.values())
        assert all(0 < value <= 100 for row in table.rows.values() for value in row if value is not None)
        assert "THFR" in table.rows
    assert len(methods()) == 9
    assert len(official_categories("mvtec_ad")) == 15
    assert len(official_categories("mvtec_loco")) == 5
    for dataset in ("mvtec_ad", "mvtec_loco"):
        for category in official_categories(dataset):
            assert set(official_metadata(dataset, category)) <= {"size", "train", "validation", "test"}


@pytest.mark.shared
def test_the_figures_are_the_supplement_s(shared: Path) -> None:
    """Every row of the supplement's text, read afresh."""
    paper = shared / "paper" / "thfr-supplement.md"
    if not paper.is_file():
        pytest.skip(f"no supplement: {paper} is absent")
    ours = {table.number: table for table in published_tables()}
    number, seen, columns = 0, {n: set() for n in ours}, []
    for line in paper.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"Table (\d)\. ", line):
            number = int(found[1])
        trials = [re.sub(r"<[^>]+>|\s", "", trial) for trial in line.split("\t")]
        if number == 0 or len(trials) < 4:
            continue
        if trials[0].startswith("Method"):
            columns = trials[1:]
            continue
        method = re.sub(r"\[\d+\]|\(ours\)|\*", "", trials[0])
        if method not in methods():  # rules of the layout that the text shows as rows
            continue
        values = tuple(None if trial == "-" else float(trial) for trial in trials[1:])
        assert len(values) == len(columns)
        assert ours[number].rows[method] == values, (number, method)
        seen[number].add(method)
    assert seen == {n: set(table.rows) for n, table in ours.items()}
