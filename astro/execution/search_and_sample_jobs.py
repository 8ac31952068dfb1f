"""Jobs about a problem: a search tree, or whole solutions with grades. They combine the search core, a task and the
parameters."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import Field

from astro.execution.job_runner import Runner, run_jobs
from astro.execution.result_store import ResultStore
from astro.execution.scheduler import Job
from astro.inference.engine import Request
from astro.search import Expand, Grade, Graded, Search, SearchConfig, Simulate, sample_tree, search
from astro.search.core import IsTerminal, Key, Split
from astro.seeds import node_seed
from astro.tasks import Task, get_task
from schemas.records import ROOT, Chain, Extraction, Problem, StepChecks, Tree, Verdict
from schemas.strict import Strict

if TYPE_CHECKING:
    from astro.cloning.verbalize import Phrases
    from astro.tasks.chat import ChatTemplate
    from schemas.mcts import MctsParams
    from schemas.run import Reading


@dataclass(frozen=True, slots=True)
class ToGrade:
    """A response to grade. The result is `(answer, verdict)`, or with `chain` `(answer, verdict, Chain)`."""

    problem: Problem
    text: str
    chain: bool = False


@dataclass(frozen=True, slots=True)
class ToCheck:
    """Steps whose equalities are to be checked, see `Task.checks`."""

    problem: Problem
    steps: tuple[str, ...]


class _Shared(TypedDict):
    """Settings that every search shares."""

    seed: int
    is_terminal: IsTerminal
    key: Key
    split: Split


class ProblemJobs:
    """Base class of jobs about a problem. It holds the task and grades responses. Subclasses are frozen dataclasses.

    Attributes:
        task: name of the task.
        seed: seed of the run.
        chat: chat template for prompts; None: plain text prompts.
        phrases: phrases that announce a return, for parsing chains; None: unknown.
        answers: where a response holds its final answer (`run.answers`).
    """

    task: str
    seed: int
    chat: "ChatTemplate | None"
    phrases: "Phrases | None" = None
    answers: "Reading" = "box"

    @cached_property
    def _task(self) -> Task:
        return get_task(self.task, self.phrases, self.chat, self.answers)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling, without cached values."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}  # type: ignore[attr-defined]

    def grade(self, wanted: Sequence[ToGrade | ToCheck]) -> list[Any]:
        """Results of a batch, in order. `ToGrade` and `ToCheck` describe their results."""
        whole = [w for w in wanted if isinstance(w, ToGrade)]
        read = [w for w in whole if w.chain]
        grades = iter(self._task.grade_many([w.problem for w in whole], [w.text for w in whole]))
        chains = iter(self._task.parse_many([w.problem for w in read], [w.text for w in read]))
        found: list[Any] = []
        for w in wanted:
            if isinstance(w, ToCheck):
                found.append(self._task.checks(w.problem, w.steps))
            else:
                grade = next(grades)
                found.append((*grade, next(chains)) if w.chain else grade)
        return found

    def graded(self, wanted: Sequence[ToGrade | ToCheck]) -> Generator[list[Any], list[Any], list[Any]]:
        """Grade a batch for a job: at once if the task grades in microseconds, else on another thread."""
        if not wanted:
            return []
        return self.grade(wanted) if self._task.grades_inline else (yield list(wanted))


@dataclass(frozen=True)
class SearchJobs(ProblemJobs):
    """Jobs that build one search tree per problem.

    Attributes:
        settings: params.mcts.
        task, seed, chat, answers: as in `ProblemJobs`.
        check_steps: whether nodes receive the task's checks of their steps.
    """

    settings: "MctsParams"
    task: str
    seed: int
    chat: "ChatTemplate | None" = None
    check_steps: bool = False
    answers: "Reading" = "box"

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """As `Jobs`; the job returns a Tree."""
        return problem.id, self._job(problem)

    def _job(self, problem: Problem) -> Job:
        tree = yield from self.searched(problem, self.search(problem))
        return (yield from self._checked(tree)) if self.check_steps else tree

    def searched(self, problem: Problem, core: Search) -> Generator[list[Any], list[Any], Tree]:
        """Run `core`, turning its requests into text for the engine and its solutions into items for the grader."""
        return rendered(core, lambda wanted: self.request(problem, wanted), self._grader(problem))

    def request(self, problem: Problem, wanted: Expand | Simulate) -> Request:
        """Turn a request of the search into a prompt. The prompt of a child begins with its parent's prompt, so that an
        engine with a prefix cache computes each step once.
        """
        settings, task = self.settings, self._task
        expand = isinstance(wanted, Expand)
        return Request(
            prompt=task.prompt(problem) + "".join(step + task.step_end for step in wanted.steps),
            n=wanted.n,
            max_tokens=settings.step_tokens if expand else settings.rollout_tokens,
            temperature=settings.temperature,
            stop=task.stops if expand else (),
            seed=wanted.seed,
            logprobs=expand and settings.prior in ("sequence", "token"),
        )

    def search(self, problem: Problem) -> Search:
        """The search for one problem. It yields `Expand`, `Simulate` and `Grade`."""
        settings, task = self.settings, self._task
        shared: _Shared = {
            "seed": self.seed,
            "is_terminal": task.is_terminal,
            "key": task.state_key,
            "split": task.split,
        }
        if settings.method == "best_of_n":
            return sample_tree(problem, samples=settings.samples, max_depth=settings.max_depth, **shared)
        plain = {"num_actions", "rollouts_per_child", "num_simulations", "max_depth", "c_puct", "prior"}
        savings = settings.savings.model_dump(include={"merge_steps", "reuse_rollouts"})
        config = SearchConfig(**settings.model_dump(include=plain), **savings, turns=self.chat is not None)
        return search(problem, config=config, **shared)

    def _grader(self, problem: Problem) -> "Graders":
        """Grades solutions. With `savings.grade_once` equal solutions are graded once per tree, as mathematics takes
        milliseconds."""
        task, once = self._task, self.settings.savings.grade_once
        known: dict[str, Graded] = {}

        def grade(wanted: Sequence[Grade]) -> Generator[list[Any], list[Any], list[Graded]]:
            texts = [task.response(w.steps, w.rest) for w in wanted]
            new = [text for text in dict.fromkeys(texts) if text not in known] if once else texts
            grades = yield from self.graded([ToGrade(problem, text) for text in new])
            found = [
                grade if (place := task.extraction(text)) is None else (*grade, place)
                for text, grade in zip(new, grades, strict=True)
            ]
            if not once:
                return found
            known.update(zip(new, found, strict=True))
            return [known[text] for text in texts]

        return grade

    def _checked(self, tree: Tree) -> Generator[list[Any], list[Any], Tree]:
        """Add the task's checks of each step to the tree. If the task checks no steps, the tree stays as it is."""
        steps = tuple(node.text for node in tree.nodes[ROOT + 1 :])
        checks: list[StepChecks] | None = (yield from self.graded([ToCheck(tree.problem, steps)]))[0]
        if checks is None:
            return tree
        nodes = zip(tree.nodes[ROOT + 1 :], checks, strict=True)
        checked = [node.model_copy(update={"checks": check}) for node, check in nodes]
        return tree.model_copy(update={"nodes": [tree.nodes[ROOT], *checked]})


class Answer(Strict):
    """One sample of a model, with its grade."""

    text: str
    tokens: int = Field(ge=0)
    finished: bool = Field(description="whether it ended by itself; False: the length limit cut it")
    answer: str | None = Field(description="extracted final answer; None: no answer was found")
    verdict: Verdict
    extraction: Extraction | None = Field(
        default=None, exclude_if=lambda value: value is None, description="as in `Completion`"
    )
    chain: Chain | None = Field(description="the text as a graph; None: not requested")


class Answers(Strict):
    """All samples of a model for one problem, in order."""

    id: str = Field(min_length=1, description="id of the problem")
    samples: list[Answer] = Field(min_length=1)


@dataclass(frozen=True)
class SampleJobs(ProblemJobs):
    """Jobs in which the model answers each problem n times. The answers are graded.

    Attributes:
        task, seed, chat, phrases, answers: as in `ProblemJobs`.
        purpose: purpose of the samples; another purpose draws other samples.
        n, max_tokens, temperature: as in `Request`.
        chains: whether the samples are also parsed as chains of thought.
    """

    task: str
    seed: int
    purpose: str
    n: int
    max_tokens: int
    temperature: float
    chat: "ChatTemplate | None" = None
    phrases: "Phrases | None" = None
    chains: bool = False
    answers: "Reading" = "box"

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """As `Jobs`; the job returns `Answers`."""
        return problem.id, self._job(problem)

    def _job(self, problem: Problem) -> Job:
        request = Request(
            prompt=self._task.prompt(problem),
            n=self.n,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            stop=(),
            seed=node_seed(self.seed, problem.id, [self.purpose], "rollout"),
            logprobs=False,
        )
        (samples,) = yield [request]
        grades = yield from self.graded([ToGrade(problem, sample.text, self.chains) for sample in samples])
        return Answers(
            id=problem.id,
            samples=[
                Answer(
                    text=sample.text,
                    tokens=sample.tokens,
                    finished=sample.finished,
                    answer=answer,
                    verdict=verdict,
                    extraction=self._task.extraction(sample.text),
                    chain=chain[0] if chain else None,
                )
                for sample, (answer, verdict, *chain) in zip(samples, grades, strict=True)
            ],
        )


class Unfinished(Strict):
    """Samples of one problem that the token limit cut off."""

    problem: Problem
    samples: dict[str, str] = Field(min_length=1, description="number of the sample -> its text so far")

    @property
    def id(self) -> str:
        """Id of the problem."""
        return self.problem.id


class Addition(Strict):
    """The continuation of a sample that was cut off."""

    text: str
    tokens: int = Field(ge=0)
    finished: bool = Field(description="whether it ended by itself")


class Additions(Strict):
    """The continuations by the number of the sample."""

    samples: dict[str, Addition]


@dataclass(frozen=True)
class ContinueJobs(ProblemJobs):
    """Jobs in which the model continues samples that were cut off.

    Attributes:
        task, seed, chat, phrases: as in `ProblemJobs`.
        purpose, temperature: as in `SampleJobs`.
        max_tokens: limit of the continuation.
    """

    task: str
    seed: int
    purpose: str
    max_tokens: int
    temperature: float
    chat: "ChatTemplate | None" = None
    phrases: "Phrases | None" = None

    def __call__(self, item: Unfinished) -> tuple[str, Job]:
        """As `Jobs`; the job returns `Additions`."""
        return item.id, self._job(item)

    def _job(self, item: Unfinished) -> Job:
        prompt = self._task.prompt(item.problem)
        answers = yield [
            Request(
                prompt=prompt + text,
                n=1,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                stop=(),
                seed=node_seed(self.seed, item.problem.id, [self.purpose, number], "rollout"),
                logprobs=False,
            )
            for number, text in item.samples.items()
        ]
        found = zip(item.samples, (one for (one,) in answers), strict=True)
        return Additions(
            samples={number: Addition(text=s.text, tokens=s.tokens, finished=s.finished) for number, s in found}
        )


def sample_answers(
    jobs: SampleJobs,
    problems: Sequence[Problem],
    *,
    store: ResultStore[Answers],
    runner: Runner,
    concurrency: int,
    label: str,
) -> list[Answers]:
    """The model's answers to each problem, in order. Answers in `store` are reused.

    Args:
        concurrency: number of samples that are drawn at once.

    Raises: as `run_jobs`.
    """
    run_jobs(
        jobs,
        lambda: problems,
        store=store,
        runner=runner,
        in_flight=max(1, concurrency // jobs.n),
        label=label,
        unit="problems",
    )
    return [store[problem.id] for problem in problems]


Graders = Callable[[Sequence[Grade]], Generator[list[Any], list[Any], list[Graded]]]


def rendered(
    core: Generator[list[Any], Any, Any], render: Callable[[Any], Request], grade: "Graders | None" = None
) -> Job:
    """Turn a sans-I/O generator into a job: requests are rendered as text, and solutions go to `grade`."""
    answers = None  # a generator that has not started accepts only None
    try:
        while True:
            try:
                wanted = core.send(answers)
            except StopIteration as stop:
                return stop.value
            if grade is not None and wanted and isinstance(wanted[0], Grade):
                answers = yield from grade(wanted)
            else:
                answers = yield [render(item) for item in wanted]
    finally:
        core.close()
