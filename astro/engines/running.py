"""Do a task for many problems: with an engine of this machine, or with a cluster's. The results are the same."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.engines.api import Engine
from astro.engines.feed import TimedEngine, run_searches
from astro.engines.opening import open_engine, share_of
from astro.engines.searches import Task
from schemas.records import Problem

if TYPE_CHECKING:
    from schemas.engine import EngineParams
    from schemas.execution import ExecutionParams


@dataclass
class Meter:
    """How busy the engines are.

    Attributes:
        workers: engines at work.
        engine_s: seconds inside them, all together.
        worker_s: seconds that they were there, all together.
        lost: workers that were lost, and whose work was done again.
    """

    workers: int = 1
    engine_s: float = 0.0
    worker_s: float = 0.0
    lost: int = 0

    @property
    def busy(self) -> float:
        """Share of their time that the engines worked, 0..1."""
        return self.engine_s / self.worker_s if self.worker_s else 0.0


def run_task(
    task: Task,
    problems: Iterable[Problem],
    *,
    total: int,
    engine: "EngineParams",
    execution: "ExecutionParams",
    model: Path,
    in_flight: int,
    meter: Meter | None = None,
) -> Iterator[tuple[str, Any]]:
    """Yield (problem id, result) as they come, each problem once. `problems` is read lazily.

    Args:
        total: number of `problems`.
        engine, model: what answers. On a cluster each worker holds what is one process here, with its share of `in_flight`.
        in_flight: problems that are worked on at once.
        execution: which runner, and what its engines get.
        meter: is kept up to date.

    Raises:
        EngineError: the engine cannot be opened, failed, or (ray) no worker is to be had; results yielded so far stand.
        SearchError: the job of a problem failed; names it.
    """
    meter = Meter() if meter is None else meter
    if execution.runner == "local":
        yield from run_here(
            task, problems, open_engine=partial(open_engine, engine, execution, model), in_flight=in_flight, meter=meter
        )
        return
    from astro.engines.ray_runner import run_on_ray
    from astro.tokens import read_control

    served = engine.kind == "endpoint"  # its model is elsewhere, and one client serves all
    one = execution.model_copy(update={"processes": 1}) if served else share_of(execution)
    yield from run_on_ray(
        task,
        problems,
        total=total,
        open_engine=partial(open_engine, engine, one, model, control=read_control(model))
        if served
        else partial(open_engine, engine, one),
        model=None if served else model,
        in_flight=max(1, in_flight // (1 if served else execution.processes)),
        settings=execution.ray,
        gpus=0 if served else one.vllm.tensor_parallel_size if engine.kind == "vllm" else 1,
        meter=meter,
    )


def run_here(
    task: Task, problems: Iterable[Problem], *, open_engine: Callable[[], Engine], in_flight: int, meter: Meter
) -> Iterator[tuple[str, Any]]:
    """As `run_task` with the local runner, over the engine that `open_engine` opens."""
    engine = TimedEngine(open_engine())
    began = time.monotonic()
    try:
        for pair in run_searches(map(task, problems), engine=engine, in_flight=in_flight):
            meter.engine_s, meter.worker_s = engine.seconds, time.monotonic() - began
            yield pair
    finally:
        engine.close()
