"""The facts of an atlas in a SQL database: SQLite beside the arrays, or a server through a SQLAlchemy URL."""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from cutaway.atlas import schema
from cutaway.atlas.records import from_row, package_version, utc_now
from cutaway.errors import AtlasError, Unavailable

R = TypeVar("R")
#: How long a writer waits for another one.
BUSY_SECONDS = 60.0
#: Rows per INSERT statement; SQLite allows 32,766 parameters in one.
ROWS_PER_STATEMENT = 500
NOT_AN_ATLAS = "{} was to be opened and is a database but not an atlas; choose another folder."
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Database:
    """Short transactions on the tables of :mod:`cutaway.atlas.schema`; opened by the first one."""

    def __init__(self, url: str, place: str, before_opening: Callable[[], None]) -> None:
        self.url, self.place, self._before_opening = url, place, before_opening
        self._engine: Engine | None = None
        self._process = os.getpid()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._errors(), self._opened().connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is done whole or not at all; other writers wait for it."""
        with self._errors(), self._writing(self._opened()) as connection:
            yield connection

    def close(self) -> None:
        """Closes all connections; the next transaction opens them again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _opened(self) -> Engine:
        if self._process != os.getpid() and self._engine is not None:
            self._engine.dispose(close=False)  # after a fork, these connections are the parent's
            self._engine, self._process = None, os.getpid()
        if self._engine is None:
            self._before_opening()
            engine = _engine(self.url)
            try:
                self._prepare(engine)
            except BaseException:
                engine.dispose()
                raise
            self._engine = engine
        return self._engine

    @staticmethod
    @contextlib.contextmanager
    def _writing(engine: Engine) -> Iterator[Connection]:
        with engine.connect().execution_options(cutaway_writes=True) as connection, connection.begin():
            yield connection

    def _prepare(self, engine: Engine) -> None:
        with engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
        if schema.meta.name in tables:
            self._check_version(engine)
        elif tables and engine.dialect.name == "sqlite":
            raise AtlasError(NOT_AN_ATLAS.format(self.place))
        else:
            self._create(engine)

    def _create(self, engine: Engine) -> None:
        with self._writing(engine) as connection:
            schema.metadata.create_all(connection)
            row = {"key": "format_version", "value": str(schema.FORMAT_VERSION)}
            stamp = {"cutaway_version": package_version(), "created_utc": utc_now()}
            insert_new(connection, schema.meta, [row | stamp])

    def _check_version(self, engine: Engine) -> None:
        columns = {column["name"] for column in sa.inspect(engine).get_columns(schema.meta.name)}
        found: Any = None
        if {"key", "value"} <= columns:
            query = sa.select(schema.meta.c.value).where(schema.meta.c.key == "format_version")
            with engine.connect() as connection:
                found = connection.execute(query).scalar()
        if not str(found).isdigit():
            raise AtlasError(NOT_AN_ATLAS.format(self.place))
        if int(found) > schema.FORMAT_VERSION:
            raise AtlasError(
                f"{self.place} has atlas format {found} and this cutaway ({package_version()}) reads up to "
                f"{schema.FORMAT_VERSION}; upgrade cutaway or choose another folder."
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise AtlasError(self._explain(str(error.orig))) from error
        except json.JSONDecodeError as error:
            raise AtlasError(f"{self.place} holds a row that cannot be read ({error}); delete the atlas.") from error
        except sqlite3.DatabaseError as error:  # while connecting, before SQLAlchemy wraps what is raised
            raise AtlasError(self._explain(str(error))) from error

    def _explain(self, found: str) -> str:
        lowered = found.lower()
        if "full" in lowered or "no space" in lowered:
            return f"There was no space left to write {self.place}; free some and run again, what is stored is kept."
        if "not a database" in lowered or "malformed" in lowered:
            return f"{self.place} was to be opened and is no atlas or a damaged one ({found}); choose another folder."
        if "locked" in lowered:
            return f"{self.place} was locked by another process for {BUSY_SECONDS:.0f} s; end that one and run again."
        if "unable to open" in lowered or "readonly" in lowered:
            return f"{self.place} cannot be opened or written ({found}); check the folder's permissions."
        return f"{self.place} refused a request ({found.splitlines()[0]}); check it and run again."


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def _engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_SECONDS} if is_sqlite else {})
    except (ArgumentError, NoSuchModuleError) as error:
        raise AtlasError("SQLAlchemy does not know this database URL; write DIALECT://HOST/DATABASE.") from error
    except ImportError as error:
        raise Unavailable(f"This database URL needs a package: pip install {error.name}.") from error
    if engine.dialect.name not in _INSERT:
        raise AtlasError(f"An atlas can live in sqlite or postgresql, and {engine.dialect.name} was asked for.")
    if is_sqlite:
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not begin transactions by itself: _on_sqlite_begin does, so that it can choose their kind.
    connection.isolation_level = None
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Two processes that switch a new file to WAL at once: SQLite does not wait by itself here.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for another writer, so writers say so at once.
    writes = connection.get_execution_options().get("cutaway_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert_new(connection: Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> int:
    """Inserts the rows whose keys are not taken; returns how many were new."""
    insert = _INSERT[connection.dialect.name]
    count = 0
    for part in _parts(list(rows)):
        count += connection.execute(insert(table).values(part).on_conflict_do_nothing()).rowcount
    return count


def insert_or_replace(connection: Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Inserts the rows; a row whose primary key is taken replaces the older one."""
    insert = _INSERT[connection.dialect.name]
    keys = [column.name for column in table.primary_key]
    for part in _parts(list(rows)):
        statement = insert(table).values(part)
        others = {name: statement.excluded[name] for name in part[0] if name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others))


def _parts(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        yield rows[start : start + ROWS_PER_STATEMENT]


def select_records(connection: Connection, kind: type[R], table: sa.Table, *where: Any, order: Any = ()) -> list[R]:
    """The rows that meet all conditions, as records."""
    order = order if isinstance(order, tuple) else (order,)
    query = sa.select(table).where(*where).order_by(*order)
    return [from_row(kind, dict(row)) for row in connection.execute(query).mappings()]
