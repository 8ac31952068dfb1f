"""The search against its raw engine, and what its modes cost.

    python -m benchmarks.search [trees]

Takes models/base and data/problems/train.jsonl of the workspace (make run first), engine and mcts of params.yaml. In one process,
side by side, the prefix cache emptied before each. Beside other work compare CPU seconds; they need `execution.processes: 1`, for
those of other processes are not counted:

1. the search over so many problems: wall time, share of it inside submit and poll, tokens/s;
2. the same requests again as one flat list, all known beforehand: what the engine gives without a search; the ratio of the two;
3. problems per minute against the number of trees in flight;
4. the flat list on an engine that draws without a seed per request: what the deterministic mode costs (vllm only).
"""

import sys
import time
from collections.abc import Sequence

from astro.execution.scheduler import TimedEngine, generate, run_searches
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_jsonl
from astro.inference.engine import Engine, Request
from astro.inference.factory import open_engine
from astro.params import load_params
from astro.process import UserError, run_stage
from schemas.records import Problem
from stages.mcts import MODEL, PROBLEMS

DEFAULT_TREES = 600
IN_FLIGHT = (1, 8, 32, 128, 512)
SWEEP = 0.25
"""Share of the trees that the sweep over trees in flight takes; one in flight takes a tenth of that."""


class Recorder:
    """An engine that keeps the requests it was given."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.requests: list[Request] = []

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        self.requests.append(request)
        return self.engine.submit(request)

    def poll(self) -> list:
        """As `Engine.poll`."""
        return self.engine.poll()

    def close(self) -> None:
        """As `Engine.close`."""
        self.engine.close()


def reset(engine: Engine) -> None:
    """Forget cached prompts, where the engine caches any."""
    getattr(engine, "reset_prefix_cache", lambda: None)()


def search(engine: Engine, jobs: SearchJobs, problems: Sequence[Problem], in_flight: int) -> tuple[int, float, float]:
    """(tokens, seconds, CPU seconds of this process)."""
    began, used = time.perf_counter(), time.process_time()
    trees = dict(run_searches(map(jobs, problems), engine=engine, in_flight=in_flight))
    return sum(tree.tokens for tree in trees.values()), time.perf_counter() - began, time.process_time() - used


def flat(engine: Engine, requests: Sequence[Request], concurrency: int) -> tuple[int, float, float]:
    """(tokens, seconds, CPU seconds of this process)."""
    reset(engine)
    began, used = time.perf_counter(), time.process_time()
    answers = generate(requests, engine=engine, concurrency=concurrency)
    tokens = sum(s.tokens for samples in answers for s in samples)
    return tokens, time.perf_counter() - began, time.process_time() - used


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_TREES
    params = load_params()
    problems = list(read_jsonl(PROBLEMS, Problem))[: count + 8]
    if len(problems) < count + 8:
        raise UserError(f"{PROBLEMS}: has {len(problems)} problems, but {count} trees need {count + 8}")
    warm, problems = problems[count:], problems[:count]
    jobs = SearchJobs(params.mcts, params.run.spec, params.run.seed)
    raw, concurrency = open_engine(params.engine, params.execution, MODEL), params.execution.concurrency
    search(raw, jobs, warm, 8)  # first batches pay for allocations

    reset(raw)
    recorder = Recorder(raw)
    timed = TimedEngine(recorder)
    tokens, wall, cpu = search(timed, jobs, problems, params.execution.trees_in_flight)
    flat_tokens, flat_wall, flat_cpu = flat(raw, recorder.requests, concurrency)
    print(
        f"trees {count}, requests {len(recorder.requests)}, tokens {tokens}, in flight {params.execution.trees_in_flight}"
    )
    print(f"search      {wall:8.1f} s  {tokens / wall:8.0f} tokens/s")
    print(f"in engine   {timed.seconds:8.1f} s  {timed.seconds / wall:8.1%} of the search's wall time")
    print(f"flat batch  {flat_wall:8.1f} s  {flat_tokens / flat_wall:8.0f} tokens/s  ({flat_tokens} tokens)")
    print(f"search / flat batch, tokens/s: {(tokens / wall) / (flat_tokens / flat_wall):.3f}")
    if params.execution.processes == 1 and params.engine.kind != "endpoint":
        print(f"the same in tokens per CPU second: {(tokens / cpu) / (flat_tokens / flat_cpu):.3f}", flush=True)

    some = problems[: max(8, round(SWEEP * count))]
    for in_flight in IN_FLIGHT:
        chosen = some[: max(4, len(some) // 10)] if in_flight == 1 else some
        reset(raw)
        spent, seconds, _ = search(raw, jobs, chosen, in_flight)
        rate = 60 * len(chosen) / seconds
        print(f"{in_flight:4} trees in flight: {rate:7.0f} problems/min, {spent / seconds:7.0f} tokens/s", flush=True)
    raw.close()

    if params.engine.kind == "vllm":
        vllm = params.engine.vllm.model_copy(update={"seeded": False})
        free = open_engine(params.engine.model_copy(update={"vllm": vllm}), params.execution, MODEL)
        search(free, jobs, warm, 8)
        free_tokens, free_wall, _ = flat(free, recorder.requests, concurrency)
        free.close()
        ratio = (flat_tokens / flat_wall) / (free_tokens / free_wall)
        print(
            f"without seeds {free_wall:6.1f} s  {free_tokens / free_wall:8.0f} tokens/s; seeded / unseeded: {ratio:.3f}"
        )


if __name__ == "__main__":
    run_stage(main)
