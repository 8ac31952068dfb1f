"""Run jobs over a model: search, samples, votes, rewrites, pass rates and eval. A cluster gives the same results.

    store = ResultStore(work / FILE, Tree)
    with open_runner(engine, execution, model) as runner:
        run_jobs(jobs, lambda: problems, store=store, runner=runner, in_flight=96, label="mcts", unit="trees")

Each result is stored as soon as it arrives, so an interrupted run continues item by item.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel

from astro.execution.result_store import ResultStore
from astro.execution.scheduler import Job, TimedEngine, run_searches
from astro.inference.engine import Engine, EngineError
from astro.inference.factory import count_processes, open_engine, share_of
from astro.process import Progress, UserError
from astro.special_tokens import read_control

if TYPE_CHECKING:
    from schemas.engine import EngineParams
    from schemas.execution import ExecutionParams

R = TypeVar("R", bound=BaseModel)


class Item(Protocol):
    """The subject of a job, such as a problem. It is plain data that can be pickled."""

    @property
    def id(self) -> str:
        """Key of the item in the store."""
        ...


class Jobs(Protocol):
    """A factory of jobs, one per item. It is plain data without an engine, because it is pickled for the workers of a cluster."""

    @property
    def task(self) -> str:
        """Task of the jobs, as `schemas.run.RunParams.spec` writes it."""
        ...

    def __call__(self, item: Any, /) -> tuple[str, Job]:
        """(id of the item, job that returns its result)."""
        ...

    def grade(self, wanted: Any, /) -> Any:
        """See `astro.execution.scheduler.Grader`."""
        ...


@dataclass
class Meter:
    """Usage of the engines.

    Attributes:
        workers: number of engines at work.
        engine_s: seconds that all engines worked, in total.
        worker_s: seconds that all engines were available, in total.
        lost: number of lost workers, whose work was repeated.
    """

    workers: int = 1
    engine_s: float = 0.0
    worker_s: float = 0.0
    lost: int = 0

    @property
    def busy(self) -> float:
        """Share of the available time that the engines worked, from 0 to 1."""
        return self.engine_s / self.worker_s if self.worker_s else 0.0


class Runner(Protocol):
    """A place where jobs run: this process or a cluster."""

    def run(
        self, jobs: Jobs, items: Iterable[Any], *, total: int, in_flight: int, meter: Meter
    ) -> Iterator[tuple[str, Any]]:
        """Run a job for each item and yield (id, result) as results arrive, each once. `items` is read lazily.

        Args:
            total: number of `items`.
            in_flight: number of items that run concurrently.
            meter: updated during the run.

        Raises:
            EngineError: the engine cannot be opened or failed, or no worker is available. Results yielded so far are valid.
            SearchError: the job of an item failed; names the item.
        """
        ...

    def close(self) -> None:
        """Release the engines."""
        ...


class LocalRunner:
    """Runner over one engine of this process. The first run opens the engine, later runs use it again."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self._engine: TimedEngine | None = None

    def run(
        self, jobs: Jobs, items: Iterable[Any], *, total: int, in_flight: int, meter: Meter
    ) -> Iterator[tuple[str, Any]]:
        """As `Runner.run`."""
        if self._engine is None:
            self._engine = TimedEngine(self._open())
        began, before = time.monotonic(), self._engine.seconds
        for pair in run_searches(map(jobs, items), engine=self._engine, in_flight=in_flight, grade=jobs.grade):
            meter.engine_s, meter.worker_s = self._engine.seconds - before, time.monotonic() - began
            yield pair

    def load(self, model: Path) -> bool:
        """See `astro.inference.engine.load_weights`. False where no engine is open yet."""
        return self._engine is not None and self._engine.load(model)

    def close(self) -> None:
        """As `Runner.close`."""
        if self._engine is not None:
            self._engine.close()


@contextlib.contextmanager
def open_runners(engine: "EngineParams", execution: "ExecutionParams") -> Iterator[Callable[[Path], Runner]]:
    """Yield a function that returns the runner of a model. Each call ends the previous runner.

    Local models that differ only in their weights share one engine, because opening an engine takes seconds.
    """
    last: Runner | None = None

    def runner_of(model: Path) -> Runner:
        nonlocal last
        if isinstance(last, LocalRunner) and last.load(model):
            return last
        if last is not None:
            last.close()
        last = _runner_of(engine, execution, model)
        return last

    try:
        yield runner_of
    finally:
        if last is not None:
            last.close()


@contextlib.contextmanager
def open_runner(engine: "EngineParams", execution: "ExecutionParams", model: Path) -> Iterator[Runner]:
    """Open the runner of one model."""
    with open_runners(engine, execution) as runner_of:
        yield runner_of(model)


def _runner_of(engine: "EngineParams", execution: "ExecutionParams", model: Path) -> Runner:
    """The runner that `execution` selects. A worker of a cluster corresponds to one process here, with its share of the jobs."""
    if execution.runner == "local":
        return LocalRunner(partial(open_engine, engine, execution, model))
    from astro.execution.ray_runner import RayRunner

    served = engine.kind == "endpoint"  # its model runs elsewhere, and one client serves all jobs
    shares = count_processes(engine, execution, model)
    one = share_of(execution, shares)
    opened = partial(open_engine, engine, one)
    return RayRunner(
        partial(opened, model, control=read_control(model)) if served else opened,
        model=None if served else model,
        settings=execution.ray,
        gpus=0 if served else one.vllm.tensor_parallel_size if engine.kind == "vllm" else 1,
        shares=shares,
    )


def run_jobs(
    jobs: Jobs,
    items: Callable[[], Iterable[Any]],
    *,
    store: ResultStore[R],
    runner: Runner,
    in_flight: int,
    label: str,
    unit: str,
    meter: Meter | None = None,
    note: Callable[[R, int, int], str] | None = None,
) -> None:
    """Run the jobs whose results are missing in `store`, and store each result as it arrives.

    Args:
        items: returns an iterator over the items, whose ids are unique. It is called twice: to count, and to run.
        label: name of the stage, for messages.
        unit: plural noun for the items, for messages.
        meter: updated during the run.
        note: called with each new result, the number of results, and the total; returns the end of the progress line.

    Raises:
        UserError: the engine or the disk failed; says how many results are stored.
        SearchError: the job of an item failed; names the item. Earlier results are stored.
    """
    total = done = 0
    for item in items():
        total += 1
        done += item.id in store
    if done == total:
        return
    if done:
        print(f"[{label}] resumes: {done} of {total} {unit} are kept from an interrupted run", flush=True)
    progress = None  # its clock starts with the first result, because opening the engine would distort the rate
    missing = (item for item in items() if item.id not in store)
    results = runner.run(jobs, missing, total=total - done, in_flight=in_flight, meter=meter or Meter())
    try:
        with contextlib.closing(results):  # type: ignore[type-var]  # runners are generators
            for identifier, result in results:
                store.add(identifier, result)
                done += 1
                progress = progress or Progress(label, total, unit=unit, start=done)
                progress.update(done, note(result, done, total) if note else "")
    except (EngineError, OSError) as error:
        raise UserError(f"{reason(error)}; {done} finished {unit} are kept for the next run") from None


def reason(error: Exception) -> str:
    """The message of an error; for a full disk also the place."""
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{error.strerror}{where}" if isinstance(error, OSError) and error.strerror else str(error)
