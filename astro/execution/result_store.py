"""Results of a long stage, stored one by one on disk. They survive a kill, and memory does not grow with their number.

A store is one sqlite file. Each result is a row (id of its item, record as JSON), written in its own transaction.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from astro.files import atomic_path, explain, named
from astro.process import UserError

R = TypeVar("R", bound=BaseModel)

FORMAT = 1
"""Version of the tables, stored in the file's header (`PRAGMA user_version`)."""

FILE = "results.sqlite"
"""File name of the store in a work folder."""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
REDO = "to compute its items again, remove it and the files beside it whose names begin with its name"


class ResultStore(Generic[R]):
    """Stored results by the ids of their items. One process at a time may use a store, from one thread."""

    def __init__(self, path: Path, record: type[R]) -> None:
        """Open the store at `path`, or create it.

        Raises:
            UserError: the file is damaged, has another format, or is open in another process.
            OSError: the file cannot be created; names it.
        """
        self.path, self._record = path, record
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._db = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        # An exclusive lock keeps a second process out and needs no shared memory, which network disks lack.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        # Each commit reaches the kernel, so a SIGKILL loses nothing, and a power cut leaves a consistent file.
        self._db.execute("PRAGMA synchronous = NORMAL")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not found:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("CREATE TABLE results (id TEXT PRIMARY KEY, record BLOB NOT NULL)")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute("COMMIT")
        elif found != FORMAT:
            raise UserError(
                f"{self.path}: result store of format {found}, but this version reads format {FORMAT}; {REDO}"
            )
        self._db.execute("SELECT id, record FROM results LIMIT 1").fetchone()

    def __len__(self) -> int:
        """Number of stored results."""
        with self._explained():
            return self._db.execute("SELECT count(*) FROM results").fetchone()[0]

    def __contains__(self, identifier: str) -> bool:
        with self._explained():
            return self._db.execute("SELECT 1 FROM results WHERE id = ?", (identifier,)).fetchone() is not None

    def __getitem__(self, identifier: str) -> R:
        """The result of an item. Raises KeyError if there is none."""
        for line in self.lines([identifier]):
            try:
                return self._record.model_validate_json(line)
            except ValidationError as error:
                raise UserError(f"{self.path}, result {identifier!r}: {explain(error)}; {REDO}") from None
        raise KeyError(identifier)

    def add(self, identifier: str, record: R) -> None:
        """Store a result. Once this returns, a SIGKILL of the process cannot lose it.

        Raises:
            OSError: e.g. the disk is full; names the file. Earlier results stay intact.
            ValueError: the item already has a result.
        """
        row = identifier, record.model_dump_json().encode()
        with self._explained():
            try:
                self._db.execute("INSERT INTO results VALUES (?, ?)", row)
            except sqlite3.IntegrityError:
                raise ValueError(f"item {identifier!r} has two results") from None

    def lines(self, ids: Iterable[str]) -> Iterator[bytes]:
        """Stored results of these items as JSON lines, in this order. Items without a result are skipped."""
        for identifier in ids:
            with self._explained():
                row = self._db.execute("SELECT record FROM results WHERE id = ?", (identifier,)).fetchone()
            if row is not None:
                yield row[0]

    def close(self) -> None:
        """Close the file."""
        with self._explained():
            self._db.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate errors of sqlite for the user."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in BUSY:
                raise UserError(
                    f"{self.path}: another process has this result store open; wait for it, or stop it"
                ) from None
            if code in BROKEN or not code:
                raise UserError(f"{self.path}: damaged result store ({error}); {REDO}") from None
            full = code == sqlite3.SQLITE_FULL
            said = os.strerror(errno.ENOSPC) if full else str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, said, str(self.path)) from None


def write_shards(target: Path, lines: Iterable[bytes], *, count: int, shards: int) -> None:
    """Write JSON lines to the files `target`/00000.jsonl, ..., as a complete folder or not at all.

    Args:
        count: number of lines.
        shards: largest number of files. All hold the same number of lines, except the last one.
    """
    size = -(-count // min(shards, count))
    source = iter(lines)
    with atomic_path(target) as folder:
        folder.mkdir()
        for number in range(-(-count // size)):
            path = folder / f"{number:05d}.jsonl"
            with named(path), path.open("wb") as shard:
                for line in islice(source, size):
                    shard.write(line + b"\n")
