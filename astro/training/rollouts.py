"""Every completion that RL samples, as one compressed shard per step; bounded in size, and exact over kills.

A shard is written before the step trains on it, so a step that fails leaves its rollouts behind. A run that resumes removes the
shards of steps after its checkpoint and writes them again: no rollout is there twice, and none of an earlier step is lost.
"""

import gzip
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from astro.runtime import UserError, atomic_path, discard, explain, read_jsonl, write_json, write_jsonl
from schemas.records import Problem
from schemas.rollouts import RlRollout

AFFECTS_RESULTS = False  # rollouts are kept to be looked at, and no stage reads them but the report

FOLDER = "rollouts"
"""In the work folder while RL runs, and at the root of the checkout afterwards."""

PROBLEMS = "problems.jsonl"
STATE = "state.json"

KEPT_RUNS = 6
"""Runs of one stage whose rollouts stay beside each other; the oldest goes."""


class RolloutWriter:
    """Writes the shards of one run. Used by one process.

    Where the next shard does not fit in the limit, only every second step of training keeps its shard, then every fourth, and so
    on. Shards of validation stay as long as they fit. The same run thus keeps the same shards, however often it is killed.
    """

    def __init__(self, folder: Path, *, limit_mb: float) -> None:
        """Begin, or continue, the shards in `folder`. limit_mb: bytes of all shards / 10^6; 0: none is written."""
        self.folder, self.limit = folder, limit_mb * 1e6
        self.full = False
        if not self.limit:
            return
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / STATE
        self.stride = int(json.loads(state.read_bytes())["stride"]) if state.is_file() else 1
        self._thin()

    def resume(self, step: int) -> None:
        """Remove what was written after the checkpoint of `step`."""
        if not self.limit:
            return
        for path in shards(self.folder):
            if step_of(path) > step:
                path.unlink()

    def write(self, kind: str, step: int, rows: Sequence[RlRollout]) -> None:
        """Keep the rollouts of a step. kind: "train" or "validation".

        Raises:
            UserError: they cannot be written, e.g. because the disk is full.
        """
        if not self.limit or not rows or not self._wanted(kind, step):
            return
        text = "".join(row.model_dump_json() + "\n" for row in rows).encode()
        data = gzip.compress(text, mtime=0)  # no time of day: the same rollouts are the same bytes
        path = self.folder / f"{kind}-{step:06d}.jsonl.gz"
        try:
            if not self._make_room(len(data), step) or not self._wanted(kind, step):
                return
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise UserError(
                f"{path}: the rollouts of step {step} cannot be written: {error.strerror or error}. Nothing was published, and "
                "the last checkpoint is kept. Free some space, or lower execution.rollouts_mb (0 keeps no rollouts), and run "
                "`dvc repro` again to resume"
            ) from None

    def _wanted(self, kind: str, step: int) -> bool:
        return kind != "train" or (step - 1) % self.stride == 0

    def _make_room(self, size: int, step: int) -> bool:
        """Thin the shards of training until `size` bytes fit; False: they do not, even then."""
        while self._used() + size > self.limit:
            if self.stride > step:
                if not self.full:
                    print(f"[rollouts] {self.folder}: execution.rollouts_mb is used up at step {step}", flush=True)
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
    """The shards of a run, training first, by step."""
    return sorted(folder.glob("*-*.jsonl.gz"))


def step_of(shard: Path) -> int:
    """The step of a shard's rollouts."""
    return int(shard.name.partition(".")[0].rpartition("-")[2])


def kind_of(shard: Path) -> str:
    """ "train" or "validation"."""
    return shard.name.partition("-")[0]


def read_shard(path: Path) -> Iterator[RlRollout]:
    """The rollouts of a shard.

    Raises:
        UserError: it is cut or broken; names file, line and field.
    """
    remedy = "remove the file, or run RL again"
    try:
        lines = gzip.decompress(path.read_bytes()).splitlines()
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: no whole gzip file ({error}); {remedy}") from None
    for number, line in enumerate(lines, 1):
        try:
            yield RlRollout.model_validate_json(line)
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {explain(error)}; {remedy}") from None


# --- beside the run ---------------------------------------------------------------------------------------------------


def home_of(root: Path, stage: str, curve: str) -> Path:
    """Where the rollouts of a run stand when it has ended. curve: md5 of its training curve, which tells runs apart."""
    return root / FOLDER / stage / curve


def publish(work: Path, target: Path, problems: Sequence[Problem]) -> None:
    """Put the shards of a work folder at `target`, with the problems that they are about; older runs' are pruned."""
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
    """A hard link, or a copy on a file system that has none: a disk that is almost full holds the shards once."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def read_problems(folder: Path) -> dict[str, Problem]:
    """Problem id -> problem, of the rollouts in `folder`."""
    return {p.id: p for p in read_jsonl(folder / PROBLEMS, Problem)}


def sample(folder: Path, count: int) -> list[RlRollout]:
    """About `count` of the rollouts in `folder`: from steps that are evenly spaced, equally many of each, validation last."""
    paths = shards(folder) if folder.is_dir() else []
    taken = paths if len(paths) <= count else [paths[i * len(paths) // count] for i in range(count)]
    each = max(1, count // max(1, len(taken)))
    found: list[RlRollout] = []
    for path in taken:
        rows = list(read_shard(path))
        found += rows[:: max(1, len(rows) // each)][:each]
    return found
