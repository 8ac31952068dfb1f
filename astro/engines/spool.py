"""Results on disk as they come, in parts, and in order at the end. What is in memory does not grow with the results, but for
one number per item.

A part is a file of JSON lines in the order in which the results came. A kill leaves at most a half-written last line, which
the next run cuts off.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from pydantic import BaseModel
from pydantic_core import from_json

from astro.runtime import UserError, atomic_path, named, read_jsonl

R = TypeVar("R", bound=BaseModel)


class Spool(Generic[R]):
    """Results of `count` items, spread over parts of neighbouring items: part i becomes shard i.

    Attributes:
        found: how many results are there.
    """

    def __init__(self, folder: Path, record: type[R], *, count: int, shards: int) -> None:
        """Open what a killed run left in `folder`, or begin.

        count: items, >= 1. shards: at most so many parts.
        """
        self._record = record
        self._size = -(-count // min(shards, count))  # items per part
        self._paths = [folder / f"{i:05d}.part.jsonl" for i in range(-(-count // self._size))]
        self._at: list[int] = [-1] * count  # item -> where its line begins in its part; -1: not there
        self._ends = [0] * len(self._paths)
        self._files: list[BinaryIO | None] = [None] * len(self._paths)
        self.found = 0

    def load(self, number_of: Mapping[str, int], identity: Callable[[dict], str]) -> None:
        """Take in the results of an earlier run.

        number_of: identity of an item -> its number in 0..count-1. identity: names the item of a result (as plain JSON).
        A result of an unknown item, or a second one, is passed over.

        Raises:
            UserError: a whole line is no JSON; names file and line.
        """
        for part, path in enumerate(self._paths):
            if path.exists():
                self._load(part, path, number_of, identity)

    def _load(self, part: int, path: Path, number_of: Mapping[str, int], identity: Callable[[dict], str]) -> None:
        offset = 0
        with path.open("rb+") as file:
            for row, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    number = number_of.get(identity(from_json(line)))
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f"{path}, line {row}: no result ({error}); remove the file to do its part again"
                    ) from None
                if number is not None and number // self._size == part and self._at[number] < 0:
                    self._at[number] = offset
                    self.found += 1
                offset += len(line)
            file.truncate(offset)
        self._ends[part] = offset

    def __contains__(self, number: int) -> bool:
        return self._at[number] >= 0

    def add(self, number: int, record: R) -> None:
        """Write the result of an item through to the kernel: a SIGKILL of this process cannot take it back.

        Raises:
            OSError: e.g. a full disk; names the file. What was there before is whole.
            ValueError: the item has a result already.
        """
        if number in self:
            raise ValueError(f"item {number} has two results")
        part = number // self._size
        path, line = self._paths[part], record.model_dump_json().encode() + b"\n"
        with named(path):
            if self._files[part] is None:
                self._files[part] = path.open("ab", buffering=0)
            try:
                written = 0
                while written < len(line):
                    written += self._files[part].write(line[written:])
            except OSError:
                os.truncate(path, self._ends[part])  # no half line
                raise
        self._at[number] = self._ends[part]
        self._ends[part] += len(line)
        self.found += 1

    def __iter__(self) -> Iterator[R]:
        """All results that are there, by item."""
        for part in range(len(self._paths)):
            for line in self._lines(part):
                yield self._record.model_validate_json(line)

    def _lines(self, part: int) -> Iterator[bytes]:
        """The lines of one part, by item."""
        if not self._paths[part].exists():
            return
        with self._paths[part].open("rb") as file:
            for at in self._at[part * self._size : (part + 1) * self._size]:
                if at >= 0:
                    file.seek(at)
                    yield file.readline()

    def publish(self, target: Path) -> None:
        """Write all results, by item, to the shards `target`/00000.jsonl, ...: the whole folder or nothing."""
        with atomic_path(target) as folder:
            folder.mkdir()
            for part in range(len(self._paths)):
                path = folder / f"{part:05d}.jsonl"
                with named(path), path.open("wb") as shard:
                    for line in self._lines(part):
                        shard.write(line)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            if file is not None:
                file.close()


def count_ids(path: Path, record: type[R], *, limit: int) -> dict[str, int]:
    """id -> number of the first `limit` records of a file, in its order.

    Raises:
        UserError: a line is broken.
    """
    found: dict[str, int] = {}
    for item in read_jsonl(path, record):
        if len(found) >= limit:
            break
        found.setdefault(item.id, len(found))
    return found
