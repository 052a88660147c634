"""The inspection log: what was inspected, what people said of it, and which thresholds they set.

In any database that SQLAlchemy knows (SQLite and PostgreSQL are tested), and as lines of JSON if asked.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine

from thfr.errors import InputError

_METADATA = sql.MetaData()


def _table(name: str, *columns: sql.Column[Any], **options: Any) -> sql.Table:
    """A table of numbered rows, each with its time: seconds since 1970, UTC."""
    number = sql.Column("id", sql.Integer, primary_key=True, autoincrement=True)
    return sql.Table(
        name, _METADATA, number, sql.Column("time", sql.Float, nullable=False), *columns, **options
    )


def _text(name: str) -> sql.Column[str]:
    return sql.Column(name, sql.Text, nullable=False)


_INSPECTIONS = _table(
    "thfr_inspections",
    sql.Column("model", sql.String(255), nullable=False, index=True),
    sql.Column("file", sql.Text),
    sql.Column("sha256", sql.String(64), nullable=False),
    sql.Column("score", sql.Float(53), nullable=False),
    sql.Column("verdict", sql.String(4), index=True),
    sql.Column("threshold", sql.Float(53)),
    sql.Column("findings", sql.JSON, nullable=False),
    sql.Column("height", sql.Integer, nullable=False),
    sql.Column("width", sql.Integer, nullable=False),
    sql.Column("ms", sql.Float, nullable=False),
    sql.Column("picture", sql.LargeBinary),  # PNG, heat map over the image, scaled down
    sqlite_autoincrement=True,  # a number is never given twice
)
_FEEDBACK = _table(
    "thfr_feedback",
    sql.Column("inspection", sql.Integer, sql.ForeignKey("thfr_inspections.id"), nullable=False, index=True),
    sql.Column("truth", sql.String(4), nullable=False),
    _text("who"),
)
_THRESHOLDS = _table(
    "thfr_thresholds",
    sql.Column("model", sql.String(255), nullable=False, index=True),
    sql.Column("value", sql.Float(53), nullable=False),
    _text("who"),
    _text("why"),
)
_SWAPS = _table(
    "thfr_swaps",
    sql.Column("model", sql.String(255), nullable=False, index=True),
    sql.Column("run", sql.String(255), nullable=False),
    _text("who"),
    _text("why"),
)
_ORIGINALS = sql.Table(  # a table of its own: logs of earlier versions get it when they are opened
    "thfr_originals",
    _METADATA,
    sql.Column("inspection", sql.Integer, sql.ForeignKey("thfr_inspections.id"), primary_key=True),
    sql.Column("data", sql.LargeBinary, nullable=False),
)
_SHOWN = [column for column in _INSPECTIONS.columns if column.name != "picture"]


class InspectionLog:
    """Safe to use from several threads; :meth:`close` it at the end.

    Args:
        url: of SQLAlchemy, ``sqlite:///line.db`` or ``postgresql+psycopg://...``; tables are made if absent.
        jsonl: file that each inspection is appended to as one line, too.
        pictures: of the last so many inspections the picture is kept.
        originals: of the last so many inspections, and of the last so many that somebody called good or bad,
            the image's file is kept, to teach with; 0: none.

    Raises:
        InputError: the database cannot be opened.
    """

    def __init__(self, url: str, jsonl: Path | None = None, pictures: int = 1000, originals: int = 0) -> None:
        self._jsonl, self._pictures, self._originals = jsonl, pictures, originals
        self._appending = threading.Lock()
        try:
            self._engine = _engine(url)
            _METADATA.create_all(self._engine)
        except (sql.exc.SQLAlchemyError, ImportError) as error:
            shown = _without_password(url)
            raise InputError(f"InspectionLog: cannot open {shown}: {_reason(error)}") from error

    def add(self, entry: dict[str, Any], picture: bytes | None = None, original: bytes | None = None) -> int:
        """Log one inspection and give its number; ``original``: the image's file.

        ``entry``: model, file, sha256, score, verdict, threshold, findings (list of objects), height, width,
        ms. Raises SQLAlchemyError or OSError if it cannot be written.
        """
        row = {"time": time.time(), **entry}
        with self._engine.begin() as connection:
            done = connection.execute(sql.insert(_INSPECTIONS).values(**row, picture=picture))
            assert done.inserted_primary_key is not None
            number = int(done.inserted_primary_key[0])
            if picture is not None:
                connection.execute(
                    sql.update(_INSPECTIONS)
                    .where(_INSPECTIONS.c.id == number - self._pictures)
                    .values(picture=sql.null())
                )
            if original is not None and self._originals:
                connection.execute(sql.insert(_ORIGINALS).values(inspection=number, data=original))
                self._forget(connection, number)
        if self._jsonl is not None:
            line = json.dumps({"id": number, **row}, allow_nan=False) + "\n"
            with self._appending, self._jsonl.open("a", encoding="utf-8") as file:
                file.write(line)
        return number

    def search(
        self,
        *,
        model: str | None = None,
        verdict: str | None = None,
        truth: str | None = None,
        text: str | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Inspections, the newest first, with ``truth``: what was last said of each, or None.

        Args:
            model, verdict, truth: exactly these.
            text: is part of the file's name, in any case.
            before, after: numbers below and above these (paging).
        """
        table, said = _INSPECTIONS.c, _last_said()
        query = sql.select(*_SHOWN, said.c.truth).select_from(
            _INSPECTIONS.outerjoin(said, said.c.inspection == table.id)
        )
        wanted = [(table.model, model), (table.verdict, verdict), (said.c.truth, truth)]
        conditions = [column == value for column, value in wanted if value is not None]
        if text:
            conditions.append(table.file.icontains(text, autoescape=True))
        if before is not None:
            conditions.append(table.id < before)
        if after is not None:
            conditions.append(table.id > after)
        query = query.where(*conditions).order_by(table.id.desc()).limit(limit)
        return self._found(query)

    def picture(self, number: int) -> bytes | None:
        """The PNG of an inspection; None if there is none (any more)."""
        return self._bytes(sql.select(_INSPECTIONS.c.picture).where(_INSPECTIONS.c.id == number))

    def say(self, number: int, truth: str, who: str) -> bool:
        """Note that a person called an inspected product ``good`` or ``bad``; False if there is no such
        inspection. The last word counts; earlier ones are kept.
        """
        with self._engine.begin() as connection:
            if connection.execute(sql.select(_INSPECTIONS.c.id).where(_INSPECTIONS.c.id == number)).first():
                row = {"inspection": number, "time": time.time(), "truth": truth, "who": who}
                connection.execute(sql.insert(_FEEDBACK).values(**row))
                self._forget(connection)
                return True
        return False

    def originals(self, model: str) -> list[dict[str, Any]]:
        """A model's inspections whose files are kept and of which somebody has said what they were: ``id``,
        ``file``, ``sha256`` and ``truth``, the newest first.
        """
        said, table = _last_said(), _INSPECTIONS.c
        query = (
            sql.select(table.id, table.file, table.sha256, said.c.truth)
            .join_from(_INSPECTIONS, _ORIGINALS, _ORIGINALS.c.inspection == table.id)
            .join(said, said.c.inspection == table.id)
            .where(table.model == model)
            .order_by(table.id.desc())
        )
        return self._found(query)

    def original(self, number: int) -> bytes | None:
        """The file of an inspection; None if it is not kept (any more)."""
        return self._bytes(sql.select(_ORIGINALS.c.data).where(_ORIGINALS.c.inspection == number))

    def _forget(self, connection: Connection, number: int | None = None) -> None:
        """Drop the files that are beyond the limits; ``number``: of the inspection that has just come."""
        said = sql.select(_FEEDBACK.c.inspection).distinct()
        if number is not None:
            old = _ORIGINALS.c.inspection <= number - self._originals
            connection.execute(sql.delete(_ORIGINALS).where(old, _ORIGINALS.c.inspection.not_in(said)))
            return
        kept = (
            sql.select(_ORIGINALS.c.inspection)
            .where(_ORIGINALS.c.inspection.in_(said))
            .order_by(_ORIGINALS.c.inspection.desc())
            .limit(self._originals)
        )
        with_word = _ORIGINALS.c.inspection.in_(said)
        gone = _ORIGINALS.c.inspection.not_in(kept)
        connection.execute(sql.delete(_ORIGINALS).where(with_word, gone))

    def scores(self, model: str, since: float = 0.0, limit: int = 10_000) -> dict[str, list[float]]:
        """The scores of a model's last inspections from this time on, by what people said: ``good``, ``bad``,
        ``unknown``.
        """
        said, table = _last_said(), _INSPECTIONS.c
        query = (
            sql.select(table.score, said.c.truth)
            .select_from(_INSPECTIONS.outerjoin(said, said.c.inspection == table.id))
            .where(table.model == model, table.time >= since)
            .order_by(table.id.desc())
            .limit(limit)
        )
        found: dict[str, list[float]] = {"good": [], "bad": [], "unknown": []}
        with self._engine.connect() as connection:
            for score, truth in connection.execute(query):
                found[truth or "unknown"].append(score)
        return found

    def set_threshold(self, model: str, value: float, who: str, why: str) -> None:
        """Note a threshold that a person has set; :meth:`thresholds` gives it from now on."""
        self._insert(_THRESHOLDS, model=model, value=value, who=who, why=why)

    def thresholds(self, model: str) -> Sequence[dict[str, Any]]:
        """The thresholds that people have set for a model, the newest first."""
        query = sql.select(_THRESHOLDS).where(_THRESHOLDS.c.model == model).order_by(_THRESHOLDS.c.id.desc())
        return self._found(query)

    def note_swap(self, model: str, run: str, who: str, why: str) -> None:
        """Note that a run answers under this name from now on; :meth:`last_swap` gives it."""
        self._insert(_SWAPS, model=model, run=run, who=who, why=why)

    def last_swap(self, model: str) -> dict[str, Any] | None:
        """The last one under this name: ``time``, ``run``, ``who``, ``why``; None if there was none."""
        query = sql.select(_SWAPS).where(_SWAPS.c.model == model).order_by(_SWAPS.c.id.desc()).limit(1)
        return next(iter(self._found(query)), None)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _found(self, query: sql.Select[Any]) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _bytes(self, query: sql.Select[Any]) -> bytes | None:
        with self._engine.connect() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else bytes(found)

    def _insert(self, table: sql.Table, **row: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sql.insert(table).values(time=time.time(), **row))


def _engine(url: str) -> Engine:
    engine = sql.create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":

        @sql.event.listens_for(engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer
            connection.execute("PRAGMA busy_timeout=10000")
            connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _last_said() -> sql.Subquery:
    """What was said last of each inspection."""
    last = sql.select(sql.func.max(_FEEDBACK.c.id)).group_by(_FEEDBACK.c.inspection)
    return sql.select(_FEEDBACK.c.inspection, _FEEDBACK.c.truth).where(_FEEDBACK.c.id.in_(last)).subquery()


def _without_password(url: str) -> str:
    try:
        return sql.make_url(url).render_as_string(hide_password=True)
    except sql.exc.ArgumentError:
        return "the URL"


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
