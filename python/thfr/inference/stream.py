"""Scores of a very large number of images, written as they come."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from thfr import distributed
from thfr.errors import InputError
from thfr.inference.scoring import Scored, judged, score_items
from thfr.io import atomic_write_json, csv_cell, result_name, storable, write_map
from thfr.io.remote import fetched, is_url, list_remote
from thfr.methods import Detector
from thfr.predictions import files
from thfr.predictions.findings import Finding
from thfr.predictions.judging import NothingToLookAt, Rules
from thfr.predictions.sources import Item, collect
from thfr.runs.json_file import read_object

COLUMNS = (
    "file", "score", "verdict", "findings", "mean", "max", "height", "width", "error", "notes",
    "findings_json",
)  # fmt: skip
PARTIAL, STATE = "scores.partial.csv", "stream.json"
_AT_ONCE = 512  # images between two looks at what is done, and of a store that are fetched at a time


def predict_stream(
    detector: Detector[Any],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    maps: bool = False,
    rules: Rules | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a folder of images, or those below a URL that fsspec knows, into ``out/scores.csv``.

    A row is written as soon as its image is scored; nothing else is kept of it, so that memory holds the list
    of names and a few batches. The file has its name once it is complete, and is ``scores.partial.csv``
    before; the same call after an interruption goes on behind the last whole row. Under ``torchrun`` the
    processes share the images. There are no pictures, no report and no ``scores.json``.

    Args:
        maps: also write each image's anomaly map, as :func:`thfr.inference.predict` does.
        rules: how findings are made, as there; their number and, as JSON, they themselves are columns.

    Returns:
        ``images``, ``failed`` and ``bad`` (None without a threshold): numbers; ``resumed``: rows that were
        there already; ``scores``: the file.

    Raises:
        InputError: source or ``out`` cannot be used, or ``out`` holds rows of another run or source.
    """
    target, main = Path(out), distributed.is_main()
    state: dict[str, Any] = {"run": detector.digest, "source": str(source), "maps": maps}
    state |= {"rules": None if rules is None else rules.as_dict()}
    if main:
        _claim(target, state)
    distributed.barrier()
    path = target / PARTIAL
    done = _whole_rows(path) if main else set()
    done = distributed.gather_objects(done)[0]
    total, batches = _sources(source, target, done)
    with (
        path.open("a", newline="", encoding="utf-8") if main else io.StringIO() as file,
        tqdm(total=total, initial=len(done), unit="image", disable=not progress) as bar,
    ):
        writer = csv.writer(file)
        if main and not done and path.stat().st_size == 0:
            writer.writerow(COLUMNS)
        for items, lost in batches:
            failed = dict(lost)
            for scored in score_items(detector, items, batch_size, failed):
                try:
                    values, score, findings = judged(scored, detector.threshold, rules)
                except NothingToLookAt as error:
                    failed[scored.item.name] = str(error)
                    continue
                if maps:
                    write_map(target / scored.item.map, values)
                _write(writer, _row(detector, scored, values, score, findings))
                bar.update()
            for name, reason in failed.items():
                _write(writer, {"file": name, "error": reason})
            bar.update(len(failed))
            _settle(file)
    if not main:
        distributed.barrier()
        return {}
    found = _counted(path, len(done))
    path.replace(target / files.SCORES_CSV)
    (target / STATE).unlink()
    distributed.barrier()
    return {**found, "scores": str(target / files.SCORES_CSV)}


def _claim(target: Path, state: dict[str, Any]) -> None:
    """Note whose rows will be in ``target``, or check that those there are."""
    if target.exists() and not target.is_dir():
        raise InputError(f"predict: out must be a folder, got the file {target}")
    if (target / STATE).is_file():
        before = read_object(target / STATE, "predict")
        if before != state:
            raise InputError(
                f"predict: {target} holds unfinished scores of {before.get('source')} or of another run; "
                "expected a new folder"
            )
        return
    if (target / files.SCORES_CSV).exists():
        raise InputError(f"predict: {target / files.SCORES_CSV} is complete; expected a new folder")
    target.mkdir(parents=True, exist_ok=True)
    atomic_write_json(target / STATE, state)
    (target / PARTIAL).touch()


def _whole_rows(path: Path) -> set[str]:
    """The images that have a row; a row that was cut off is cut away."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = csv.reader(io.StringIO(whole.decode("utf-8"), newline=""))
    return {row[0] for number, row in enumerate(rows) if number}


def _sources(
    source: str | os.PathLike[str], target: Path, done: set[str]
) -> tuple[int, Iterator[tuple[list[Item], dict[str, str]]]]:
    """How many images there are, and those without a row: as items, and what could not be fetched."""
    if not is_url(source):
        items = collect(source, target).items
        left = [item for item in items if _cell(item.name) not in done]
        return len(items), (
            (list(left[start : start + _AT_ONCE]), {}) for start in range(0, len(left), _AT_ONCE)
        )
    system, root, paths = list_remote(str(source))
    names = {path: PurePosixPath(path).relative_to(root).as_posix() for path in paths if path != root}
    names |= {path: PurePosixPath(path).name for path in paths if path == root}
    left_paths = [path for path in paths if _cell(storable(names[path])) not in done]

    def remote() -> Iterator[tuple[list[Item], dict[str, str]]]:
        for batch in fetched(system, left_paths, _AT_ONCE):
            named = [(storable(names[path]), file) for path, file in batch]
            yield (
                [
                    Item(file, name, result_name(f"maps/{name}", ".tiff"), "")
                    for name, file in named
                    if isinstance(file, Path)
                ],
                {name: str(file) for name, file in named if not isinstance(file, Path)},
            )

    return len(paths), remote()


def _row(
    detector: Detector[Any],
    scored: Scored,
    values: np.ndarray,
    score: float,
    findings: Sequence[Finding] | None,
) -> dict[str, Any]:
    threshold = detector.threshold
    objects = None if findings is None else json.dumps([one.as_dict() for one in findings], allow_nan=False)
    return {
        "file": scored.item.name,
        "score": score,
        "verdict": None if threshold is None else threshold.verdict(score),
        "findings": None if findings is None else len(findings),
        "mean": float(values.mean(dtype=np.float64)),
        "max": float(values.max()),
        "height": values.shape[0],
        "width": values.shape[1],
        "notes": "; ".join(scored.notes),
        "findings_json": objects,
    }


def _write(writer: Any, row: dict[str, Any]) -> None:
    writer.writerow([_cell("" if row.get(name) is None else row[name]) for name in COLUMNS])


def _cell(value: Any) -> Any:
    """As :func:`thfr.io.csv_cell`, on one line: an interrupted file is cut behind its last line break."""
    cell = csv_cell(value)
    return cell.replace("\n", " ").replace("\r", " ") if isinstance(cell, str) else cell


def _settle(file: IO[str]) -> None:
    """Have rows on the disk, so that an interruption repeats little."""
    file.flush()
    if not isinstance(file, io.StringIO):
        os.fsync(file.fileno())


def _counted(path: Path, resumed: int) -> dict[str, Any]:
    images = failed = bad = 0
    judged = False
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            failed += bool(row["error"])
            images += not row["error"]
            bad += row["verdict"] == "bad"
            judged = judged or bool(row["verdict"])
    if images == 0:
        raise InputError("predict: none of the images can be read; see the column error in {path}")
    return {"images": images, "failed": failed, "bad": bad if judged else None, "resumed": resumed}
