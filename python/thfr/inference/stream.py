"""Scores of a very large number of images, written as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from thfr import distributed
from thfr.errors import InputError
from thfr.inference.scoring import judged, score_items
from thfr.io import atomic_write_json, storable, write_map
from thfr.io.archives import archived, is_archive
from thfr.io.remote import fetched, is_url, list_remote
from thfr.methods import Detector
from thfr.predictions import files
from thfr.predictions.judging import NothingToLookAt, Rules
from thfr.predictions.rows import Table, rows_of
from thfr.predictions.sources import Item, collect, listed, plain_item
from thfr.predictions.tables import ImageResult, score_row
from thfr.runs.json_file import read_object

STATE = "stream.json"
_AT_ONCE = 512  # images between two looks at what is done, and of a store that are fetched at a time
_Batches = Iterator[tuple[list[Item], dict[str, str]]]
"""Images to score, and names of others with the reason why they cannot be."""


def predict_stream(
    detector: Detector[Any],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    maps: bool = False,
    rules: Rules | None = None,
    table: Table = "csv",
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a folder of images, those in tar archives, or those below a URL that fsspec knows, into
    ``out/scores.csv``.

    A row is written as soon as its image is scored; nothing else is kept of it, so that memory holds the list
    of names and a few batches. The file has its name once it is complete, and another before
    (:mod:`thfr.predictions.rows`); the same call after an interruption goes on behind the last whole row.
    Under ``torchrun`` the processes share the images. There are no pictures, no report and no
    ``scores.json``.

    Args:
        source: archives end in ``.tar``, ``.tar.gz``, ...; ``*`` takes several. See
            :func:`thfr.io.archives.archived`.
        maps: also write each image's anomaly map, as :func:`thfr.inference.predict` does.
        rules: how findings are made, as there; their number and, as JSON, they themselves are columns.
        table: ``parquet`` writes ``scores.parquet`` instead.

    Returns:
        ``images``, ``failed`` and ``bad`` (None without a threshold): numbers; ``resumed``: rows that were
        there already; ``scores``: the file.

    Raises:
        InputError: source or ``out`` cannot be used, or ``out`` holds rows of another run, source or table.
    """
    target, main = Path(out), distributed.is_main()
    rows = rows_of(table, target)
    state: dict[str, Any] = {"run": detector.digest, "source": str(source), "maps": maps, "table": table}
    state |= {"rules": None if rules is None else rules.as_dict()}
    if main:
        _claim(target, state)
    distributed.barrier()
    done = distributed.gather_objects(rows.done() if main else set())[0]
    total, batches = _sources(source, target, done, rows.key)
    if main:
        rows.open()
    try:
        with tqdm(total=total, initial=len(done), unit="image", disable=not progress) as bar:
            for items, lost in batches:
                failed = dict(lost)
                for scored in score_items(detector, items, batch_size, failed):
                    try:
                        values, score, findings = judged(scored, rules)
                    except NothingToLookAt as error:
                        failed[scored.item.name] = str(error)
                        continue
                    if maps:
                        write_map(target / scored.item.map, values)
                    limit, category = scored.threshold, scored.category
                    found = ImageResult.of(
                        scored.item, values, score, limit, scored.notes, findings, category
                    )
                    said = found.row()["findings"]
                    objects = None if said is None else json.dumps(said, allow_nan=False)
                    rows.add({**score_row(found), "findings_json": objects})
                    bar.update()
                if main:
                    for name, reason in failed.items():
                        rows.add({"file": name, "error": reason})
                    rows.settle()
                bar.update(len(failed))
    finally:
        if main:
            rows.close()
    if not main:
        distributed.barrier()
        return {}
    counts = {**rows.count(), "resumed": len(done)}
    if counts["images"] == 0:
        raise InputError(f"predict: none of the images can be read; see the column error in {target}")
    path = rows.finish()
    (target / STATE).unlink()
    distributed.barrier()
    return {**counts, "scores": str(path)}


def _claim(target: Path, state: dict[str, Any]) -> None:
    """Note whose rows will be in ``target``, or check that those there are."""
    if target.exists() and not target.is_dir():
        raise InputError(f"predict: out must be a folder, got the file {target}")
    if (target / STATE).is_file():
        before = {"table": "csv", **read_object(target / STATE, "predict")}
        if before != state:
            raise InputError(
                f"predict: {target} holds unfinished scores of {before.get('source')} or of another run or "
                "table; expected a new folder"
            )
        return
    for name in (files.SCORES_CSV, files.SCORES_PARQUET):
        if (target / name).exists():
            raise InputError(f"predict: {target / name} is complete; expected a new folder")
    target.mkdir(parents=True, exist_ok=True)
    atomic_write_json(target / STATE, state)


def _sources(
    source: str | os.PathLike[str], target: Path, done: set[str], key: Callable[[str], str]
) -> tuple[int | None, _Batches]:
    """How many images there are, None if that is not known yet, and those without a row."""
    if is_archive(source):
        return None, map(_stored, archived(source, done, _AT_ONCE, key))
    if not is_url(source):
        return _local(Path(source), target, done, key)
    system, root, paths = list_remote(str(source))
    names = {path: PurePosixPath(path).relative_to(root).as_posix() for path in paths if path != root}
    names |= {path: PurePosixPath(path).name for path in paths if path == root}
    left = [path for path in paths if key(storable(names[path])) not in done]
    batches = fetched(system, left, _AT_ONCE)
    return len(paths), (_stored([(storable(names[path]), file) for path, file in some]) for some in batches)


def _local(source: Path, target: Path, done: set[str], key: Callable[[str], str]) -> tuple[int, _Batches]:
    if not source.is_dir():
        items = collect(source, target).items
        return len(items), iter([([item for item in items if key(item.name) not in done], {})])
    names = [path.relative_to(source).as_posix() for path in listed(source, target).images]
    if len({storable(name) for name in names}) < len(names):
        raise InputError(f"predict: two images in {source} would have one name in the table")
    left = [name for name in names if key(storable(name)) not in done]
    starts = range(0, len(left), _AT_ONCE)
    return len(names), (
        ([plain_item(source / name, name) for name in left[start : start + _AT_ONCE]], {}) for start in starts
    )


def _stored(found: list[tuple[str, Path | InputError]]) -> tuple[list[Item], dict[str, str]]:
    """Names and files, or why there is none."""
    items = [plain_item(file, name) for name, file in found if isinstance(file, Path)]
    return items, {name: str(error) for name, error in found if not isinstance(error, Path)}
