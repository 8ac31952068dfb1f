"""The data records that flow between stages: one JSON object per line, one class per kind of line.

Every field documents its unit, its range and the meaning of None or absence. Records are frozen.
"""

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from schemas.strict import Strict

Verdict = Literal["correct", "wrong", "unparseable_prediction", "unparseable_gold"]
"""Grade of an answer. It is not boolean, because a text without an answer is counted apart from a wrong answer."""

Extraction = Literal["box", "statement", "none"]
"""Place of a response's answer: its last box, an explicit final statement, or nowhere."""

ROOT = 0
"""Index of the root in `Tree.nodes`."""

NO_PARENT = -1
"""`Node.parent` of the root."""


class Problem(Strict):
    """One problem of one set."""

    id: str = Field(min_length=1, description="unique over all sets of a run")
    task: str = Field(min_length=1, description="the task of the problem, see run.task")
    question: str = Field(min_length=1, description='the question as the model sees it, e.g. "make 24 from 3 5 7 9"')
    gold: str = Field(min_length=1, description='reference answer for the grader, e.g. "24"')
    level: int = Field(ge=1, description="difficulty; Countdown: how many numbers; math: 1 if the source has no level")
    chance: float | None = Field(
        ge=0, le=1, description="exact probability that a random legal path succeeds; None: unknown"
    )
    data: JsonValue = Field(
        default=None,
        exclude_if=lambda value: value is None,  # keeps the bytes of problems of tasks without it
        description="further data that the task needs for grading; None: nothing",
    )


class Rollout(Strict):
    """One completion from a node to the end, reduced to what the search needs."""

    answer: str | None = Field(description="extracted final answer; None: the text contains none")
    verdict: Verdict
    extraction: Extraction | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # keeps the bytes of trees of tasks without it
        description="place of the answer; None: the completion was cut, or the task has only one format",
    )
    tokens: int = Field(ge=0, description="generated tokens")


class StepChecks(Strict):
    """Results of checking the equalities in the text of one step."""

    true: int = Field(ge=0)
    false: int = Field(ge=0)
    unchecked: int = Field(ge=0, description="not checkable: definitions, equations to solve, unread notation")


class Node(Strict):
    """One reasoning step in a search tree. The root has no step."""

    index: int = Field(ge=0, description="position in Tree.nodes; parents come before children")
    parent: int = Field(ge=NO_PARENT, description="index of the parent; -1 for the root")
    depth: int = Field(ge=0, description="steps from the root")
    text: str = Field(description='the step, without its end mark; "" for the root')
    prior: float = Field(ge=0, le=1, description="P_LM(a|s), normalised over siblings; 1 for the root")
    visits: int = Field(ge=0, description="N(s)")
    q: float = Field(ge=0, le=1, description="Q(s): back-propagated value")
    reward: float = Field(
        ge=0, le=1, description="R(s): mean verdict over the node's own rollouts, or its grade if terminal"
    )
    terminal: bool = Field(description="contains a final answer, or cannot be continued")
    answer: str | None = Field(description="final answer of a terminal node; None: not terminal, or no answer")
    verdict: Verdict | None = Field(description="grade of a terminal node; None: not terminal")
    rollouts: list[Rollout] = Field(
        description="M rollouts; empty for the root, for answers and for nodes closed by max_depth"
    )
    checks: StepChecks | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # keeps the bytes of trees of tasks without them
        description="equalities in the step; None: the task does not check steps",
    )


class Tree(Strict):
    """The search tree of one problem, with its cost."""

    problem: Problem
    nodes: list[Node] = Field(min_length=1)
    iterations: int = Field(ge=0, description="number of simulations")
    requests: int = Field(ge=0, description="generation requests sent to the engine")
    tokens: int = Field(ge=0, description="tokens generated for this tree")

    @model_validator(mode="after")
    def _parents_precede(self) -> "Tree":
        for position, node in enumerate(self.nodes):
            if node.index != position:
                raise ValueError(f"nodes[{position}].index is {node.index}, expected {position}")
            if (node.parent == NO_PARENT) != (position == ROOT) or node.parent >= position:
                raise ValueError(f"nodes[{position}].parent is {node.parent}, expected an earlier node (root: -1)")
        return self

    def path(self, index: int) -> list[int]:
        """Indices from the first step (child of the root) to `index`; [] for the root."""
        found: list[int] = []
        while index != ROOT:
            found.append(index)
            index = self.nodes[index].parent
        return found[::-1]

    def steps(self, index: int) -> list[str]:
        """Texts of the steps from the first step to `index`."""
        return [self.nodes[i].text for i in self.path(index)]


class Segment(Strict):
    """A piece of a chain of thought. The joined pieces of a trace are its completion."""

    text: str = Field(min_length=1)
    kind: Literal["step", "wrong_step", "reflection", "return"] = Field(
        description="step: on the path to the correct answer; wrong_step: on an abandoned branch; "
        "reflection: doubt before a jump; return: where the chain goes back to"
    )
    node: int | None = Field(description="tree node of the step, or node that a return goes to; None: reflection")


class Trace(Strict):
    """One training example: a linearized tree (paper sections 2.3 and 2.4)."""

    id: str = Field(min_length=1, description="<problem id>/<number within the tree>")
    problem_id: str
    kind: Literal["direct", "search"]
    prompt: str
    completion: str
    backtracks: int = Field(ge=0, description="number of jumps back; 0 for a direct solution")
    segments: list[Segment] = Field(min_length=1)
    answer: str = Field(description="final answer of the chain, correct by construction")

    @model_validator(mode="after")
    def _pieces_make_the_completion(self) -> "Trace":
        if "".join(s.text for s in self.segments) != self.completion:
            raise ValueError("segments do not join to completion")
        if (self.kind == "direct") != (self.backtracks == 0):
            raise ValueError(f"kind is {self.kind} but backtracks is {self.backtracks}")
        return self


class ChainNode(Strict):
    """One step of a generated chain of thought."""

    text: str
    parent: int = Field(ge=-1, description="index of the step that it continues; -1: the problem itself")
    valid: bool = Field(description="whether it obeys the rules of the task in the state that it continues")
    ends: bool = Field(description="whether it ends an attempt (nothing is left to do)")
    right: bool | None = Field(description="whether the attempt solves the problem; None: no attempt ends here")
    claim: bool | None = Field(
        description=("the chain's own verdict on the attempt (right / not right); None: it states none")
    )


class Chain(Strict):
    """A chain of thought as a directed graph: nodes are steps, an edge leads from each step to the next one written.

    A back edge leads from the step before a jump to the step (or -1, the problem) that the chain returns to.
    """

    nodes: list[ChainNode]
    back_edges: list[tuple[int, int]] = Field(description="(from step, to step or -1), in order of appearance")
    attempts: list[int] = Field(description="indices of the steps that end an attempt, in order")
    repeats: int = Field(ge=0, description="attempts that repeat an earlier one of the chain")
    unparsed: int = Field(ge=0, description="lines that are neither a step nor a jump")


class Completion(Strict):
    """One eval sample of one model on one problem."""

    model: str = Field(min_length=1, description="base, or a model of an arm: sft, grpo_direct, ...")
    set: str = Field(description="name of the eval set")
    problem_id: str
    sample: int = Field(ge=0, description="0 .. samples-1")
    text: str
    tokens: int = Field(ge=0)
    finished: bool = Field(description="whether it ended by itself; False: the length limit cut it")
    answer: str | None
    verdict: Verdict
    extraction: Extraction | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # keeps the bytes of completions of tasks without it
        description="place of the answer; None: the task has only one format",
    )
    chain: Chain


class StageRecord(Strict):
    """records/<stage>.json: the run that made a stage's outs. Only the report reads it, and it differs from run to run."""

    stage: str
    run_id: str = Field(description='MLflow run in experiment "stages"; "": not tracked')
    started: float = Field(ge=0, description="seconds since the epoch")
    seconds: float = Field(ge=0, description="wall time in seconds")
    host: str
    peak_memory_gb: float = Field(ge=0, description="largest resident size of the stage's process, GiB")
