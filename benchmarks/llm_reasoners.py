"""The search against the MCTS of llm-reasoners: same model, same engine, same number of iterations, one process.

    pip install --no-deps --target SOMEWHERE llm-reasoners==1.0.2
    PYTHONPATH=SOMEWHERE python -m benchmarks.llm_reasoners [trees] [trees of llm-reasoners]

Takes models/base and data/problems/train.jsonl of the workspace (make run first), engine and mcts of params.yaml. llm-reasoners
searches one problem at a time and waits for each expansion. It values a node by walking down to an end, so an iteration costs
other tokens than ours: compare the tokens per second beside the problems per minute.
"""

import math
import sys
import time
from collections.abc import Sequence

from reasoners import Reasoner, SearchConfig, WorldModel
from reasoners.algorithm import MCTS

from astro.execution.scheduler import generate
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_jsonl
from astro.inference.engine import Engine, Request
from astro.inference.factory import open_engine
from astro.params import load_params
from astro.process import UserError, run_stage
from astro.tasks import get_task
from benchmarks.search import reset, search
from schemas.mcts import MctsParams
from schemas.records import Problem
from stages.mcts import MODEL, PROBLEMS

DEFAULT_TREES, DEFAULT_THEIRS = 450, 40

Steps = tuple[str, ...]


class StepsWorld(WorldModel):
    """A state is the steps so far."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = get_task(task)

    def init_state(self) -> Steps:
        """No step."""
        return ()

    def step(self, state: Steps, action: str) -> tuple[Steps, dict]:
        """One step more."""
        return (*state, action), {}

    def is_terminal(self, state: Steps) -> bool:
        """Whether the last step holds an answer."""
        return bool(state) and self.task.is_terminal(state[-1])


class StepsPolicy(SearchConfig):
    """Actions are the different steps among num_actions samples; their prior is the probability per token; an end is graded."""

    def __init__(self, engine: Engine, task: str, settings: MctsParams) -> None:
        super().__init__()
        self.example: Problem  # the search sets it
        self.engine, self.task, self.settings = engine, get_task(task), settings
        self.prior_of: dict[tuple[Steps, str], float] = {}
        self.tokens = 0
        self.seed = 0

    def get_actions(self, state: Steps) -> list[str]:
        """At most num_actions steps."""
        self.seed += self.settings.num_actions
        request = Request(
            prompt=self.task.prompt(self.example) + "".join(step + self.task.step_end for step in state),
            n=self.settings.num_actions,
            max_tokens=self.settings.step_tokens,
            temperature=self.settings.temperature,
            stop=self.task.stops,
            seed=self.seed,
            logprobs=True,
        )
        [samples] = generate([request], engine=self.engine, concurrency=self.settings.num_actions)
        self.tokens += sum(s.tokens for s in samples)
        whole = [s for s in samples if s.finished and s.text.strip()]
        self.prior_of |= {(state, s.text): math.exp(s.logprob / max(1, s.tokens)) for s in whole}
        return list(dict.fromkeys(s.text for s in whole))

    def fast_reward(self, state: Steps, action: str) -> tuple[float, dict]:
        """The prior."""
        return self.prior_of[state, action], {}

    def reward(self, state: Steps, action: str, **_: object) -> tuple[float, dict]:
        """1 for a right answer."""
        if not self.task.is_terminal(action):
            return 0.0, {}
        graded = self.task.grade_many([self.example], [self.task.response((*state, action))])
        return float(graded[0][1] == "correct"), {}


def theirs(engine: Engine, task: str, settings: MctsParams, problems: Sequence[Problem]) -> tuple[int, float, int]:
    """(tokens, seconds, problems solved) of llm-reasoners."""
    reset(engine)
    policy = StepsPolicy(engine, task, settings)
    algorithm = MCTS(n_iters=settings.num_simulations, depth_limit=settings.max_depth, w_exp=settings.c_puct)
    reasoner = Reasoner(StepsWorld(task), policy, algorithm)
    began = time.perf_counter()
    solved = sum(reasoner(problem).cum_reward >= 1 for problem in problems)
    return policy.tokens, time.perf_counter() - began, solved


def main() -> None:
    """Print the figures."""
    count, few = (int(sys.argv[i]) if len(sys.argv) > i else n for i, n in ((1, DEFAULT_TREES), (2, DEFAULT_THEIRS)))
    params = load_params()
    problems = list(read_jsonl(PROBLEMS, Problem))[: count + 8]
    if len(problems) < count + 8:
        raise UserError(f"{PROBLEMS}: has {len(problems)} problems, but {count} trees need {count + 8}")
    execution = params.execution.model_copy(update={"processes": 1})
    engine = open_engine(params.engine, execution, MODEL)
    jobs = SearchJobs(params.mcts, params.run.spec, params.run.seed)
    search(engine, jobs, problems[count:], 8)  # first batches pay for allocations
    reset(engine)
    tokens, seconds, _ = search(engine, jobs, problems[:count], execution.trees_in_flight)
    their_tokens, their_seconds, solved = theirs(engine, params.run.spec, params.mcts, problems[:few])
    engine.close()
    print("                trees   tokens a tree   problems/min   tokens/s")
    for name, n, spent, took in (("ours", count, tokens, seconds), ("llm-reasoners", few, their_tokens, their_seconds)):
        print(f"{name:15} {n:5} {spent / n:15.0f} {60 * n / took:14.1f} {spent / took:10.0f}")
    print(
        f"ours / llm-reasoners: {count / seconds / (few / their_seconds):.1f} in problems, "
        f"{tokens / seconds / (their_tokens / their_seconds):.1f} in tokens; theirs solved {solved} of {few}"
    )


if __name__ == "__main__":
    run_stage(main)
