"""Storage of all completions that RL samples: one compressed shard per step, bounded in size and exact across kills.

A shard is written before the step trains on it, so a failed step leaves its rollouts behind. A resumed run removes the
shards of steps after its checkpoint and writes them again. No rollout is stored twice, and none of an earlier step is
lost.
"""

import gzip
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from astro.files import atomic_path, discard, explain, read_json, read_jsonl, write_json, write_jsonl
from astro.process import UserError
from schemas.records import Problem
from schemas.rollouts import RlRollout
from schemas.strict import Strict

AFFECTS_RESULTS = False  # rollouts are for inspection; only the report reads them

FOLDER = "rollouts"
"""Folder name of the rollouts: in the work folder during RL, and at the root of the checkout afterwards."""

PROBLEMS = "problems.jsonl"
STATE = "state.json"

KEPT_RUNS = 6
"""Number of runs of one stage whose rollouts are kept. The oldest is removed."""


class WriterState(Strict):
    """Content of state.json."""

    stride: int = Field(ge=1, description="training shards are kept every so many steps")


class RolloutWriter:
    """Writes the shards of one run, from one process.

    If the next shard exceeds the limit, only every second training step keeps its shard, then every fourth, and so on.
    Validation shards stay as long as they fit. The same run therefore keeps the same shards, however often it is
    killed.
    """

    def __init__(self, folder: Path, *, limit_mb: float) -> None:
        """Open the folder, new or with the shards of an earlier run.

        Args:
            limit_mb: total size of all shards in units of 10^6 bytes; 0: none is written.
        """
        self.folder, self.limit = folder, limit_mb * 1e6
        self.full = False
        if not self.limit:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.stride = 1
        if (state := folder / STATE).is_file():
            try:
                self.stride = read_json(state, WriterState).stride
            except UserError as error:
                raise UserError(f"{error}; remove the file, and run `dvc repro` again to resume") from None
        self._thin()

    def resume(self, step: int) -> None:
        """Remove shards that were written after the checkpoint of `step`.

        Raises:
            UserError: an earlier shard is damaged, e.g. by a crash of the machine. It cannot be sampled again.
        """
        if not self.limit:
            return
        for path in shards(self.folder):
            if step_of(path) > step:
                path.unlink()
            else:
                _content(
                    path,
                    remedy=f"remove the file and run `dvc repro` again: training resumes after step {step} and keeps "
                    "the rollouts of all other steps",
                )

    def write(self, kind: str, step: int, rows: Sequence[RlRollout]) -> None:
        """Store the rollouts of a step.

        Args:
            kind: "train" or "validation".

        Raises:
            UserError: they cannot be written, e.g. because the disk is full.
        """
        if not self.limit or not rows or not self._wanted(kind, step):
            return
        text = "".join(row.model_dump_json() + "\n" for row in rows).encode()
        data = gzip.compress(text, mtime=0)  # without a time stamp the same rollouts give the same bytes
        path = self.folder / f"{kind}-{step:06d}.jsonl.gz"
        try:
            if not self._make_room(len(data), step) or not self._wanted(kind, step):
                return
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise UserError(
                f"{path}: the rollouts of step {step} cannot be written: {error.strerror or error}. Nothing was "
                "published, and the last checkpoint is kept. Free disk space, or lower execution.rollouts_mb (0 "
                "keeps no rollouts), and run `dvc repro` again to resume"
            ) from None

    def _wanted(self, kind: str, step: int) -> bool:
        return kind != "train" or (step - 1) % self.stride == 0

    def _make_room(self, size: int, step: int) -> bool:
        """Thin out the training shards until `size` bytes fit. Returns False if that is not enough."""
        while self._used() + size > self.limit:
            if self.stride > step:
                if not self.full:
                    print(
                        f"[rollouts] {self.folder}: execution.rollouts_mb is used up at step {step}; later steps "
                        "are not stored",
                        flush=True,
                    )
                self.full = True
                return False
            self.stride *= 2
            write_json(self.folder / STATE, {"stride": self.stride})
            self._thin()
        return True

    def _used(self) -> int:
        return sum(path.stat().st_size for path in shards(self.folder))

    def _thin(self) -> None:
        for path in shards(self.folder):
            if not self._wanted(kind_of(path), step_of(path)):
                path.unlink()


def shards(folder: Path) -> list[Path]:
    """The shards of a run: training first, ordered by step."""
    return sorted(folder.glob("*-*.jsonl.gz"))


def step_of(shard: Path) -> int:
    """The step of a shard."""
    return int(shard.name.partition(".")[0].rpartition("-")[2])


def kind_of(shard: Path) -> str:
    """The kind of a shard: "train" or "validation"."""
    return shard.name.partition("-")[0]


def _content(path: Path, *, remedy: str) -> bytes:
    """The decompressed content of a shard.

    Raises:
        UserError: the file is damaged or empty.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); {remedy}") from None
    if not content.strip():
        raise UserError(f"{path}: contains no rollouts, so the file was cut; {remedy}")
    return content


def read_shard(path: Path) -> Iterator[RlRollout]:
    """Read the rollouts of a shard.

    Raises:
        UserError: the file is truncated, empty or broken; names file, line and field.
    """
    remedy = "remove the file to go on without the rollouts of this step, or repeat RL"
    for number, line in enumerate(_content(path, remedy=remedy).splitlines(), 1):
        try:
            yield RlRollout.model_validate_json(line)
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {explain(error)}; {remedy}") from None


# --- rollouts of finished runs
# -----------------------------------------------------------------------------------------


def home_of(root: Path, stage: str, curve: str) -> Path:
    """Folder of the rollouts of a finished run.

    Args:
        curve: md5 of its training curve, which identifies the run.
    """
    return root / FOLDER / stage / curve


def publish(work: Path, target: Path, problems: Sequence[Problem]) -> None:
    """Publish the shards of a work folder at `target`, with their problems, and remove those of old runs."""
    source = work / FOLDER
    found = shards(source) if source.is_dir() else []
    if not found:
        return
    with atomic_path(target) as folder:
        folder.mkdir()
        for path in found:
            _link(path, folder / path.name)
        write_jsonl(folder / PROBLEMS, problems)
    others = sorted((p for p in target.parent.iterdir() if p != target), key=lambda p: (-p.stat().st_mtime_ns, p.name))
    for old in others[KEPT_RUNS - 1 :]:
        discard(old)


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system has no links. An almost full disk thus holds the shards only once."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def read_problems(folder: Path) -> dict[str, Problem]:
    """Problem id -> problem, for the rollouts in `folder`."""
    return {p.id: p for p in read_jsonl(folder / PROBLEMS, Problem)}


def sample(folder: Path, count: int) -> list[RlRollout]:
    """A sample of about `count` rollouts in `folder`, equally many from evenly spaced steps, validation last."""
    paths = shards(folder) if folder.is_dir() else []
    taken = paths if len(paths) <= count else [paths[i * len(paths) // count] for i in range(count)]
    each = max(1, count // max(1, len(taken)))
    found: list[RlRollout] = []
    for path in taken:
        rows = list(read_shard(path))
        found += rows[:: max(1, len(rows) // each)][:each]
    return found
