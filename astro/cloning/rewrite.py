"""Rewrite a chain of thought by a language model, segment by segment (paper section 2.4). Sans-I/O, like the search.

`rewrite` is a generator: it yields requests and receives texts. It therefore runs in a scripted test, over an engine with
thousands of chains in flight, or by hand. The prompts and checks of a task are an `Editor`.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from astro.files import digest
from schemas.linearize import Fault, RewriteFaults, RewriteMetrics
from schemas.records import ROOT, Problem, Segment, Trace, Tree
from schemas.strict import Strict


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment of a chain to be rewritten.

    Attributes:
        kind, node: as in `Segment`.
        text: the template's text, without the end mark.
        opening: words that the rewrite must begin with (the phrase of a reflection or a return); "": none.
        target: the step in the tree that a return goes back to; "": the problem, or not a return.
        ends: whether it is the last step of an attempt.
        last: whether it is the last step of the chain.
        answer: the answer of the attempt that ends here; None: no attempt ends here, or it is given up without an answer.
    """

    kind: Literal["step", "wrong_step", "reflection", "return"]
    node: int | None
    text: str
    opening: str = ""
    target: str = ""
    ends: bool = False
    last: bool = False
    answer: str | None = None

    @property
    def kept(self) -> bool:
        """Whether it stays unchanged: a return without words (in a chain without phrases), or a mere line end."""
        return self.kind in ("reflection", "return") and not self.opening


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for one text: try number `attempt` (0, 1, ...) at segment `segment`."""

    segment: int
    attempt: int
    prompt: str


class Written(Protocol):
    """Text written by an engine (`astro.search.Sample` fits). finished: it ended by itself; False: it was cut."""

    text: str
    finished: bool


Passage = tuple[Piece, str]
"""A piece and its text in the chain, without the end mark."""


class Editor(Protocol):
    """The task's part of rewriting: prompts and checks."""

    def prompt(self, problem: Problem, piece: Piece, chain: Sequence[Passage]) -> str:
        """The prompt for one piece. chain: the part of the chain before it."""

    def settle(
        self, problem: Problem, piece: Piece, chain: Sequence[Passage], written: Written
    ) -> tuple[str, Fault | None]:
        """Check a rewrite. Returns (text of the segment without the end mark, its fault or None)."""


class Rewritten(Strict):
    """The result for one chain."""

    id: str = Field(min_length=1, description="see `chain_id`")
    texts: list[str] | None = Field(description="texts of all segments, without end marks; None: the chain is dropped")
    requests: int = Field(ge=0, description="number of requested texts")
    fallbacks: int = Field(ge=0, description="segments that keep the template's text, because no rewrite passed")
    rejected: RewriteFaults
    dropped_for: Fault | None = Field(description="fault of the last try")


Rewriting = Generator[list[Ask], list[list[Written]], Rewritten]


def chain_id(trace: Trace) -> str:
    """Key that is equal for identical chains in both training sets, so that they are rewritten only once."""
    return f"{trace.id}/{digest(trace.prompt, [s.model_dump() for s in trace.segments])}"


def pieces_of(tree: Tree, trace: Trace, *, step_end: str, restate: Callable[[Sequence[str]], str]) -> list[Piece]:
    """The segments of a trace that `verbalize.write_chain` wrote, with what is needed for rewriting them.

    Args:
        step_end, restate: as in the call of `write_chain`.
    """
    found: list[Piece] = []
    for place, segment in enumerate(trace.segments):
        text, last = segment.text.removesuffix(step_end), place == len(trace.segments) - 1
        if segment.kind == "reflection":
            found.append(Piece("reflection", None, text, opening=text))
        elif segment.kind == "return":
            assert segment.node is not None, f"{trace.id}: a return without a node"
            steps = tree.steps(segment.node)
            opening = segment.text.removesuffix(restate(steps)).removesuffix(step_end)
            target = "" if segment.node == ROOT else steps[-1]
            found.append(Piece("return", segment.node, text, opening=opening, target=target))
        else:
            assert segment.node is not None, f"{trace.id}: a step without a node"
            ends = last or trace.segments[place + 1].kind in ("reflection", "return")
            answer = tree.nodes[segment.node].answer if ends else None
            found.append(Piece(segment.kind, segment.node, text, ends=ends, last=last, answer=answer))
    return found


def rewrite(
    identifier: str,
    problem: Problem,
    pieces: Sequence[Piece],
    *,
    editor: Editor,
    retries: int,
    on_failure: Literal["drop", "template"],
) -> Rewriting:
    """Rewrite a chain. Each segment is written with the earlier ones as context, checked, and tried again if it fails.

    Yields one `Ask` at a time, in a list, and receives [[text]].
    """
    chain: list[Passage] = []
    requests, fallbacks = 0, 0
    rejected: Counter[str] = Counter()

    def result(texts: list[str] | None, reason: Fault | None = None) -> Rewritten:
        faults = RewriteFaults(**rejected)
        return Rewritten(
            id=identifier,
            texts=texts,
            requests=requests,
            fallbacks=fallbacks,
            rejected=faults,
            dropped_for=reason,
        )

    for number, piece in enumerate(pieces):
        if piece.kept:
            chain.append((piece, piece.text))
            continue
        prompt = editor.prompt(problem, piece, chain)
        for attempt in range(retries + 1):
            ((written,),) = yield [Ask(number, attempt, prompt)]
            requests += 1
            text, fault = editor.settle(problem, piece, chain, written)
            if fault is None:
                break
            rejected[fault] += 1
        else:
            if on_failure == "drop":
                return result(None, fault)
            text = fallback(piece, chain)
            fallbacks += 1
        chain.append((piece, text))
    return result([text for _, text in chain])


def fallback(piece: Piece, chain: Sequence[Passage]) -> str:
    """The template's text. A return restates its step in the words that the chain used, so that the step can be recognised."""
    said = [text for other, text in chain if piece.target and other.node == piece.node and other.kind != "return"]
    return piece.text.replace(piece.target, said[-1]) if said else piece.text


def retold(trace: Trace, rewritten: Rewritten, *, step_end: str) -> Trace:
    """The trace with rewritten texts. Kinds and nodes of its segments stay, so that all readers of traces work as before."""
    assert rewritten.texts is not None, f"{trace.id}: a dropped chain has no text"
    segments = [
        Segment(text=text + (step_end if s.text.endswith(step_end) else ""), kind=s.kind, node=s.node)
        for text, s in zip(rewritten.texts, trace.segments, strict=True)
    ]
    return trace.model_copy(update={"segments": segments, "completion": "".join(s.text for s in segments)})


class RewriteFigures:
    """Rewrites the training sets, one example at a time, and collects statistics."""

    def __init__(self) -> None:
        self._chains = self._segments = self._fallbacks = self._requests = self._dropped = 0
        self._examples = self._lost = 0
        self._rejected: Counter = Counter()
        self._dropped_for: Counter = Counter()

    def retold(self, example: Sequence[Trace], found: Mapping[str, Rewritten], *, step_end: str) -> list[Trace] | None:
        """The rewritten form of one example in each training set; None: one of its chains was dropped.

        An example stays in all training sets or in none, so that they remain comparable: equally many examples from the same
        trees.

        Args:
            example: its chain in each training set as the template wrote it; they share their id.
            found: `chain_id` -> result, for all of these chains.
        """
        chains = {chain_id(trace): found[chain_id(trace)] for trace in example}
        for result in chains.values():
            self._count(result)
        self._examples += 1
        if any(result.texts is None for result in chains.values()):
            self._lost += 1
            return None
        return [retold(trace, chains[chain_id(trace)], step_end=step_end) for trace in example]

    def _count(self, result: Rewritten) -> None:
        self._chains += 1
        self._segments += len(result.texts or ())
        self._fallbacks += result.fallbacks
        self._requests += result.requests
        self._dropped += result.texts is None
        self._rejected.update(result.rejected.model_dump())
        if result.dropped_for:
            self._dropped_for[result.dropped_for] += 1

    def metrics(self) -> RewriteMetrics:
        """The statistics."""
        return RewriteMetrics(
            chains=self._chains,
            segments=self._segments,
            fallbacks=self._fallbacks,
            requests=self._requests,
            dropped=self._dropped,
            left_out=round(self._lost / self._examples, 6) if self._examples else 0.0,
            rejected=RewriteFaults(**self._rejected),
            dropped_for=RewriteFaults(**self._dropped_for),
        )
