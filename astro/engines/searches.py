"""Work on problems as the engines take it: the search core, a domain and params.mcts put together.

A task is plain data (it travels to the workers of a cluster) and makes one job per problem, see `astro.engines.feed.Job`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from astro.domains import Domain, get_domain
from astro.engines.api import Request
from astro.engines.feed import Job
from astro.search import Expand, Search, SearchConfig, Simulate, sample_tree, search
from astro.search.seeds import node_seed
from schemas.records import Problem

if TYPE_CHECKING:
    from astro.domains.chat import ChatTemplate
    from schemas.mcts import MctsParams


class Task(Protocol):
    """What is done with each problem. Picklable: plain data, no engine."""

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """(problem id, the job that yields requests and returns the result)."""
        ...


@dataclass(frozen=True)
class SearchTask:
    """One search tree per problem.

    Attributes:
        settings: params.mcts.
        domain: name of it.
        seed: of the run.
        chat: renders prompts for a chat model; None: they are plain text.
    """

    settings: "MctsParams"
    domain: str
    seed: int
    chat: "ChatTemplate | None" = None

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """As `Task`; the job returns a Tree."""
        return problem.id, rendered(self.search(problem), lambda wanted: self.request(problem, wanted))

    @cached_property
    def _domain(self) -> Domain:
        return get_domain(self.domain, chat=self.chat)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is cached."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def request(self, problem: Problem, wanted: Expand | Simulate) -> Request:
        """What a search wants, as text. Prompts of children begin with their parent's: an engine with a prefix cache
        computes each step once."""
        settings, domain = self.settings, self._domain
        expand = isinstance(wanted, Expand)
        return Request(
            prompt=domain.prompt(problem) + "".join(step + domain.step_end for step in wanted.steps),
            n=wanted.n,
            max_tokens=settings.step_tokens if expand else settings.rollout_tokens,
            temperature=settings.temperature,
            stop=domain.stops if expand else (),
            seed=wanted.seed,
            logprobs=expand and settings.prior in ("sequence", "token"),
        )

    def search(self, problem: Problem) -> Search:
        """The search of one problem; it yields `Expand` and `Simulate`."""
        settings, domain = self.settings, self._domain
        shared = {
            "seed": self.seed,
            "is_terminal": domain.is_terminal,
            "judge": self._judge(problem),
            "key": domain.state_key,
            "split": domain.split,
        }
        if settings.method == "best_of_n":
            return sample_tree(problem, samples=settings.samples, max_depth=settings.max_depth, **shared)
        plain = {"k", "rollouts", "iterations", "max_depth", "c_puct", "prior"}
        savings = settings.savings.model_dump(include={"merge_steps", "reuse_rollouts"})
        config = SearchConfig(**settings.model_dump(include=plain), **savings, turns=self.chat is not None)
        return search(problem, config=config, **shared)

    def _judge(self, problem: Problem):
        """Grades a response; with `savings.grade_once` equal ones once per tree (grading of mathematics takes milliseconds)."""
        domain, known = self._domain, {}

        def judge(steps, rest):
            text = domain.response(steps, rest)
            if text not in known or not self.settings.savings.grade_once:
                answer = domain.extract(text)
                known[text] = answer, domain.grade(problem, answer)
            return known[text]

        return judge


@dataclass(frozen=True)
class AskTask:
    """The model answers each problem n times.

    Attributes:
        domain: name of it.
        seed: of the run.
        purpose: what it is asked for; other purposes draw other samples.
        n, max_tokens, temperature: as in `Request`.
        chat: as in `SearchTask`.
    """

    domain: str
    seed: int
    purpose: str
    n: int
    max_tokens: int
    temperature: float
    chat: "ChatTemplate | None" = None

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """As `Task`; the job returns n samples."""
        return problem.id, self._ask(problem)

    def _ask(self, problem: Problem) -> Job:
        request = Request(
            prompt=get_domain(self.domain, chat=self.chat).prompt(problem),
            n=self.n,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            stop=(),
            seed=node_seed(self.seed, problem.id, [self.purpose], "rollout"),
            logprobs=False,
        )
        return (yield [request])[0]


def rendered(search: Search, render: Callable[[Any], Request]) -> Job:
    """`search` with what it yields rendered as requests."""
    answers = None  # a generator that has not begun accepts None only
    try:
        while True:
            try:
                wanted = search.send(answers)
            except StopIteration as stop:
                return stop.value
            answers = yield [render(item) for item in wanted]
    finally:
        search.close()
