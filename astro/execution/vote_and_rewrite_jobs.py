"""Jobs of the stage linearize: votes on solutions (self-evaluation), and rewrites of chains."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import Field

from astro.cloning.rewrite import Ask, Piece, chain_id, pieces_of, rewrite
from astro.execution.scheduler import Job
from astro.execution.search_and_sample_jobs import ProblemJobs, rendered
from astro.inference.engine import Request
from astro.seeds import node_seed
from astro.tasks import Task
from astro.tasks.chain_editors import get_editor
from schemas.records import Problem, Trace, Tree
from schemas.strict import Strict

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate
    from astro.tasks.math.rewrite import MathEditor
    from schemas.linearize import RewriteParams, SelfEvalParams


# --- votes -------------------------------------------------------------------------------------------------------------


class Ballot(Strict):
    """The votes on one solution."""

    id: str = Field(min_length=1, description="see `ballot_id`")
    votes: list[str]


class Candidate(Strict):
    """A solution to vote on."""

    id: str = Field(min_length=1, description="see `ballot_id`")
    problem: Problem
    steps: list[str]


def ballot_id(tree: Tree, node: int) -> str:
    """Key of the votes on the solution that ends at `node`: <problem id>/<node>."""
    return f"{tree.problem.id}/{node}"


def candidate_of(tree: Tree, node: int) -> Candidate:
    """The solution that ends at `node`."""
    return Candidate(id=ballot_id(tree, node), problem=tree.problem, steps=tree.steps(node))


@dataclass(frozen=True)
class VoteJobs(ProblemJobs):
    """Jobs in which the model votes on a `Candidate`.

    Attributes:
        settings: params.linearize.self_eval.
        task, seed, chat: as in `ProblemJobs`.
    """

    settings: "SelfEvalParams"
    task: str
    seed: int
    chat: "ChatTemplate | None" = None

    def __call__(self, item: Candidate) -> tuple[str, Job]:
        """As `Jobs`; the job returns a `Ballot`."""
        return item.id, self._job(item)

    def _job(self, item: Candidate) -> Job:
        request = Request(
            prompt=self._task.vote_prompt(item.problem, item.steps)[0],
            n=self.settings.votes,
            max_tokens=self.settings.max_tokens,
            temperature=1.0,
            stop=(),
            seed=node_seed(self.seed, item.problem.id, ["vote", *item.steps], "rollout"),
            logprobs=False,
        )
        (samples,) = yield [request]
        return Ballot(id=item.id, votes=[sample.text for sample in samples])


# --- rewrites ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A chain in the template's words, before a model rewrites it.

    Attributes:
        id: see `astro.cloning.rewrite.chain_id`.
        number: number of the chain within its tree.
        pieces: the segments of the chain.
    """

    id: str
    problem: Problem
    number: str
    pieces: tuple[Piece, ...]


def draft_of(tree: Tree, trace: Trace, task: Task) -> Draft:
    """The draft of a trace of `tree`."""
    pieces = pieces_of(tree, trace, step_end=task.step_end, restate=lambda steps: task.restate(tree.problem, steps))
    number = trace.id.removeprefix(f"{tree.problem.id}/")
    return Draft(chain_id(trace), tree.problem, number, tuple(pieces))


@dataclass(frozen=True)
class RewriteJobs(ProblemJobs):
    """Jobs in which the model rewrites a `Draft`.

    Attributes:
        settings: params.linearize.lm.
        task, seed, chat: as in `ProblemJobs`.
        words: all phrases of the phrase file.
    """

    settings: "RewriteParams"
    task: str
    seed: int
    words: tuple[str, ...]
    chat: "ChatTemplate | None" = None

    def __call__(self, item: Draft) -> tuple[str, Job]:
        """As `Jobs`; the job returns an `astro.cloning.rewrite.Rewritten`."""
        chain = rewrite(
            item.id,
            item.problem,
            item.pieces,
            editor=self.editor,
            retries=self.settings.retries,
            on_failure=self.settings.on_failure,
        )
        return item.id, rendered(chain, lambda ask: self._request(item, ask))

    @cached_property
    def editor(self) -> "MathEditor":
        """The editor of the task. Raises UserError if the task has none, or its few-shot examples cannot be read."""
        return get_editor(self._task, shots=self.settings.shots, phrases=self.words)

    def _request(self, item: Draft, ask: Ask) -> Request:
        """The request for one try. Its seed depends only on the run's seed, the problem, the chain, the segment and the try."""
        names = ["rewrite", item.number, str(ask.segment), str(ask.attempt)]
        return Request(
            prompt=ask.prompt,
            n=1,
            max_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            stop=self.editor.stop,
            seed=node_seed(self.seed, item.problem.id, names, "rollout"),
            logprobs=False,
        )
