"""The common part of all stages: reading params, the MLflow run, and writing metrics and the stage's record.

A stage depends on its entry in dvc.yaml: params, files, and its code (`astro.code_identity`). The harness hashes these
for the key of the work folder, and again at the end. DVC hashes them only at the end, so it would record an edit during
a long run as the state that made the outs.
"""

import contextlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from astro import tracking
from astro.arms import arm_of, load_arms, require_arms
from astro.code_identity import Sources, differences, identity, path_of, stale_code
from astro.dvc_files import Entry, hash_of, read_pipeline, value_at
from astro.files import digest, digest_path, discard, write_json
from astro.params import PARAMS_FILE, load_params, plain, read_yaml
from astro.process import UserError, clear_folder, home_root, plural, work_folder
from astro.training.launch import forget_world
from schemas.arms import Arm
from schemas.records import StageRecord

if TYPE_CHECKING:
    from schemas.params import Params  # not imported, because no stage depends on the sections of others

# OpenMP reads it when torch loads it later. Waiting threads that spin would starve every other process of the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

METRICS = Path("metrics")
RECORDS = Path("records")
CURVES = METRICS / "curves"
REPORTS = Path("reports")


@dataclass(frozen=True)
class State:
    """Hashes of everything that a stage depends on, except the outs of other stages."""

    code: dict[str, str]  # path of a source -> hash
    files: dict[str, str]  # file that no stage writes, such as the phrases -> md5
    params: dict[str, object]  # tracked key of params.yaml -> value

    def changes(self, later: "State") -> list[str]:
        """Paths and keys of params.yaml that differ in `later`."""
        keys = [key for key, value in self.params.items() if later.params.get(key) != value]
        return [
            *differences(self.code, later.code),
            *differences(self.files, later.files),
            *(f"{key} in {PARAMS_FILE}" for key in keys),
        ]


@dataclass
class Stage:
    """A running stage."""

    name: str  # name of its files: "mcts", "sft_direct"
    script: str  # stages/<script>.py
    params: "Params"  # with the arm's own values, if there is an arm
    entry: Entry
    state: State
    tracker: tracking.Tracker
    arm: Arm | None = None
    started: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)

    def key(self, *more: object, without: tuple[str, ...] = ()) -> str:
        """Hash of everything that determines the result: the params and files in dvc.yaml, and the code.

        Args:
            more: further values that must match for a killed run's work to be resumed.
            without: keys of params.yaml that do not affect finished items of the work.
        """
        values = _without(self.state.params, without)
        inputs = {dep: hash_of(dep) for dep in self.entry.deps if Path(dep) != path_of(self.script)}
        return digest(values, inputs, self.state.code, *more)

    @contextlib.contextmanager
    def work(self, *more: object, without: tuple[str, ...] = ()) -> Iterator[Path]:
        """The stage's work folder (`astro.process.work_folder`). It is emptied if the block succeeds and nothing changed
        meanwhile.

        Args:
            more, without: see `key`.
        """
        with work_folder(self.name, self.key(*more, without=without)) as folder:
            yield folder
            self.require_unchanged()
            clear_folder(folder)

    def require_unchanged(self) -> None:
        """Stop if something that the stage depends on was edited. Its outs are removed, its work folder stays.

        Raises:
            UserError: names what changed.
        """
        changed = self.state.changes(state_of(self.script, self.entry, fresh=True))
        if not changed:
            return
        for out in self.entry.outs:
            discard(Path(out))
        raise UserError(
            f"{self.name}: changed while the stage ran: {', '.join(changed)}. The result is discarded, because DVC "
            "would record it as made by the new state. The finished work stays in work/. Undo the change and run "
            "`dvc repro` to use it, or just run `dvc repro` to redo the work with the change"
        )

    @property
    def traces(self) -> Path:
        """Path of the arm's training set."""
        assert self.arm is not None, f"{self.name} has no arm"
        return Path(f"data/traces/{self.arm.traces}.jsonl")

    def log(self, row: dict[str, float], step: int) -> None:
        """Log a row of a training curve as `<stage>/<name>`."""
        self.tracker.log_metrics({f"{self.name}/{k}": v for k, v in row.items()}, step=step)

    def finish(self, metrics: BaseModel) -> None:
        """Write metrics/<stage>.json (deterministic) and records/<stage>.json (run, duration, place)."""
        self.require_unchanged()
        write_json(METRICS / f"{self.name}.json", metrics)
        self.tracker.log_metrics(tracking.numbers(metrics.model_dump(), prefix=self.name))
        seconds = round(time.monotonic() - self.started, 1)
        self.tracker.log_metrics({f"{self.name}/seconds": seconds})
        write_json(
            RECORDS / f"{self.name}.json",
            StageRecord(
                stage=self.name,
                run_id=self.tracker.run_id,
                started=self.started_at,
                seconds=seconds,
                host=platform.node(),
                peak_memory_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
            ),
        )
        print(f"[{self.name}] done in {seconds:.0f} s", flush=True)


def arm_argument(script: str) -> str:
    """The arm in the command line, as in `python -m stages.sft direct`. Without an argument it is the arm without suffix.

    Raises:
        UserError: there is no such arm, or more than one argument.
    """
    given = sys.argv[1:]
    if len(given) > 1:
        raise UserError(f"{script}: expected at most one argument, the name of an arm; got {' '.join(given)!r}")
    if not given:
        plain_names = [name for name, arm in load_arms().items() if not arm.suffix]
        if not plain_names:
            raise UserError(
                f"{script}: give the name of an arm, because every arm of arms.yaml has a suffix; available: "
                f"{', '.join(load_arms())}"
            )
        return plain_names[0]
    arm_of(given[0])
    return given[0]


def state_of(script: str, entry: Entry, *, fresh: bool = False) -> State:
    """The current state of a stage's dependencies.

    Args:
        fresh: read sources again, instead of their state at the start of the process.
    """
    values = plain(read_yaml(PARAMS_FILE))
    task = str(value_at(values, "run.task"))
    code = Sources().identity(script, task) if fresh else identity(script, task)
    made = {out for other in read_pipeline(values).values() for out in other.outs}
    files = [dep for dep in entry.deps if not any(_overlap(dep, out) for out in made) and Path(dep).exists()]
    return State(
        code=code,
        files={dep: digest_path(Path(dep)) for dep in files},
        params={key: value_at(values, key) for key in entry.params},
    )


def _without(params: dict[str, object], keys: tuple[str, ...]) -> dict:
    """A copy of tracked params ("linearize" -> its section) without the given keys ("linearize.lm.max_dropped")."""
    copy = json.loads(json.dumps(params))
    for key in keys:
        tracked = next(entry for entry in copy if key.startswith(f"{entry}."))
        *sections, last = key.removeprefix(f"{tracked}.").split(".")
        here = copy[tracked]
        for section in sections:
            here = here[section]
        del here[last]
    return copy


def _overlap(dep: str, out: str) -> bool:
    return Path(dep).is_relative_to(out) or Path(out).is_relative_to(dep)


def require_current(script: str, task: str) -> None:
    """Check that the code matches code/<stage>.json, because DVC records that file as the code that made the outs.

    Raises:
        UserError: it does not match, or the file is missing although DVC runs the stage.
    """
    path = path_of(script)
    if not path.is_file():
        if not os.environ.get("DVC_STAGE"):
            return  # started by hand: nothing is recorded
        raise UserError(f"{path}: no such file; run `dvc repro code`, or a plain `dvc repro`, which does this first")
    if changed := stale_code(script, task):
        raise UserError(
            f"{path} does not match the current code; changed: {', '.join(changed)}. Run `dvc repro code`, or a "
            "plain `dvc repro`, which does this first"
        )


@contextlib.contextmanager
def stage(script: str, arm: str | None = None) -> Iterator[Stage]:
    """Open the stage of a script, for one arm if it has arms."""
    forget_world(script)
    params = load_params()
    require_arms(params)
    entry = read_pipeline(plain(read_yaml(PARAMS_FILE)))[f"{script}@{arm}" if arm else script]
    if arm:
        params = params.of_arm(arm)
    if params.base.source == "pretrained":
        from astro.preflight.gpu_fit import check_start

        check_start(script, params)
    state = state_of(script, entry)
    require_current(script, params.run.task)
    name = script + (arm_of(arm).suffix if arm else "")
    sections = dict.fromkeys([*(key.partition(".")[0] for key in entry.params), "execution"])
    values = {section: getattr(params, section).model_dump() for section in sections if section != "arms"}
    with tracking.stage_run(name, values, home_root()) as tracker:
        yield Stage(name, script, params, entry, state, tracker, arm_of(arm) if arm else None)


def tell_unanswered(name: str, ids: Sequence[str]) -> None:
    """Report problems that did not fit the engine. It answers a prompt that fills the context with an empty text."""
    if ids:
        print(
            f"[{name}] warning: no tokens for {plural(len(ids), 'problem')}, because a prompt fills engine.max_model_len; "
            f"the first is {ids[0]}",
            flush=True,
        )
