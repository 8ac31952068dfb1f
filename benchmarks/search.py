"""How much of the search's wall time is spent inside the engine, and at what rate, against the raw engine.

    make bench            # or: python -m benchmarks.search [trees]

Takes models/base and data/problems/train.jsonl of the workspace (make run first) and the mcts section of params.yaml.
Three measurements in one process, one engine, side by side:

1. the search over so many problems: wall time, share of it inside submit and poll, tokens/s;
2. the same requests again as one flat list, all known beforehand: what the engine gives without a search;
3. the ratio of the two rates.

The prefix cache is emptied before each, so neither profits from the other.
"""

import sys
import time
from functools import partial

from astro.domains import get_domain
from astro.engines.feed import TimedEngine, generate, run_searches
from astro.engines.opening import open_engine
from astro.engines.searches import searches_of
from astro.params import load_params
from astro.runtime import UserError, read_jsonl, run_stage
from schemas.records import Problem
from stages.mcts import MODEL, PROBLEMS

DEFAULT_TREES = 200


class Recorder:
    """An engine that keeps the requests it was given."""

    def __init__(self, engine):
        self.engine, self.requests = engine, []

    def submit(self, request):
        """As `Engine.submit`."""
        self.requests.append(request)
        return self.engine.submit(request)

    def poll(self):
        """As `Engine.poll`."""
        return self.engine.poll()

    def close(self):
        """As `Engine.close`."""
        self.engine.close()


def main() -> None:
    """Print the three figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_TREES
    params = load_params()
    problems = list(read_jsonl(PROBLEMS, Problem))[:count]
    if len(problems) < count:
        raise UserError(f"{PROBLEMS}: holds {len(problems)} problems, {count} trees were asked for")
    begin = partial(searches_of, settings=params.mcts, domain=get_domain(params.run.domain), seed=params.run.seed)
    raw = open_engine(params.engine, MODEL)
    reset = getattr(raw, "reset_prefix_cache", lambda: None)
    warm, to_request = begin(problems[:8])
    list(run_searches(warm, engine=raw, to_request=to_request, in_flight=8))  # first batches pay for allocations

    reset()
    recorder = Recorder(raw)
    engine = TimedEngine(recorder)
    searches, to_request = begin(problems)
    began = time.perf_counter()
    trees = list(run_searches(searches, engine=engine, to_request=to_request, in_flight=params.mcts.trees_in_flight))
    wall = time.perf_counter() - began
    tokens = sum(tree.tokens for _, tree in trees)

    reset()
    began = time.perf_counter()
    answers = generate(recorder.requests, engine=raw, concurrency=params.engine.concurrency)
    flat = time.perf_counter() - began
    flat_tokens = sum(sample.tokens for samples in answers for sample in samples)
    raw.close()

    print(
        f"trees {len(trees)}, requests {len(recorder.requests)}, tokens {tokens}, in flight {params.mcts.trees_in_flight}"
    )
    print(f"search      {wall:8.1f} s  {tokens / wall:8.0f} tokens/s")
    print(f"in engine   {engine.seconds:8.1f} s  {engine.seconds / wall:8.1%} of the search's wall time")
    print(f"flat batch  {flat:8.1f} s  {flat_tokens / flat:8.0f} tokens/s  ({flat_tokens} tokens)")
    print(f"search / flat batch, tokens/s: {(tokens / wall) / (flat_tokens / flat):.3f}")


if __name__ == "__main__":
    run_stage(main)
