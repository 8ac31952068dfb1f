"""A chain of thought rewritten by a language model, segment by segment (paper section 2.4). Sans-I/O, as the search is.

`rewrite` is a generator: it yields what it wants written and is sent the texts, so it runs under a scripted test, over an
engine with thousands of chains in flight, or by hand. What a task knows of it, the prompts and the checks, is an `Editor`.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from astro.runtime import digest
from schemas.base import Strict
from schemas.linearize import Fault, RewriteFaults, RewriteMetrics
from schemas.records import ROOT, Problem, Segment, Trace, Tree


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment of a chain, to be rewritten.

    Attributes:
        kind, node: as in `Segment`.
        text: the template's text, without the end mark.
        opening: words that its rewrite begins with (the phrase of a reflection or a return); "": none.
        target: the step that a return goes back to, as the tree has it; "": the problem, or no return.
        ends: the last step of an attempt.
        last: the last step of the chain.
        answer: what the attempt comes to; None: no end of one, or one that is given up before it comes to an answer.
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
        """Left as it is: a return without words, in a chain that is written without phrases, or the mere end of a line."""
        return self.kind in ("reflection", "return") and not self.opening


@dataclass(frozen=True, slots=True)
class Ask:
    """One text is wanted: try `attempt` (0, 1, ...) at segment `segment`."""

    segment: int
    attempt: int
    prompt: str


class Written(Protocol):
    """What an engine wrote (`astro.search.Sample` is one). finished: ended by itself; False: cut."""

    text: str
    finished: bool


Passage = tuple[Piece, str]
"""A piece and its text in the chain, without the end mark."""


class Editor(Protocol):
    """How a task has its chains rewritten."""

    def prompt(self, problem: Problem, piece: Piece, chain: Sequence[Passage]) -> str:
        """Text for a model to continue; chain: what stands before the piece."""

    def settle(
        self, problem: Problem, piece: Piece, chain: Sequence[Passage], written: Written
    ) -> tuple[str, Fault | None]:
        """(the text of the segment, without the end mark; what is wrong with it, None: nothing)."""


class Rewritten(Strict):
    """What became of one chain."""

    id: str = Field(min_length=1, description="see `chain_id`")
    texts: list[str] | None = Field(description="of all segments, without end marks; None: the chain is dropped")
    requests: int = Field(ge=0, description="texts asked for")
    fallbacks: int = Field(ge=0, description="segments that are the template's, since no rewrite passed")
    rejected: RewriteFaults
    dropped_for: Fault | None = Field(description="what the last try failed")


Rewriting = Generator[list[Ask], list[list[Written]], Rewritten]


def chain_id(trace: Trace) -> str:
    """Equal for chains of both training sets that are the same: they are rewritten once."""
    return f"{trace.id}/{digest(trace.prompt, [s.model_dump() for s in trace.segments])}"


def pieces_of(tree: Tree, trace: Trace, *, step_end: str, restate: Callable[[Sequence[str]], str]) -> list[Piece]:
    """The segments of a trace that `template.write_chain` wrote, with what their rewriting must know.

    step_end, restate: those that it was written with.
    """
    found: list[Piece] = []
    for place, segment in enumerate(trace.segments):
        text, last = segment.text.removesuffix(step_end), place == len(trace.segments) - 1
        if segment.kind == "reflection":
            found.append(Piece("reflection", None, text, opening=text))
        elif segment.kind == "return":
            assert segment.node is not None, f"{trace.id}: a return to no node"
            steps = tree.steps(segment.node)
            opening = segment.text.removesuffix(restate(steps)).removesuffix(step_end)
            target = "" if segment.node == ROOT else steps[-1]
            found.append(Piece("return", segment.node, text, opening=opening, target=target))
        else:
            assert segment.node is not None, f"{trace.id}: a step of no node"
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
    """Rewrite a chain; each segment is written in the sight of those before it, checked, and tried again where it fails.

    Yields one `Ask` at a time, in a list, and is sent [[what was written]].
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
    """The template's text; a return restates its step in the words that the chain has for it, so that it can be recognised."""
    said = [text for other, text in chain if piece.target and other.node == piece.node and other.kind != "return"]
    return piece.text.replace(piece.target, said[-1]) if said else piece.text


def retold(trace: Trace, rewritten: Rewritten, *, step_end: str) -> Trace:
    """The trace in the rewritten words. Kinds and nodes of its segments stay, so all that reads them reads it as before."""
    assert rewritten.texts is not None, f"{trace.id}: a chain that is dropped"
    segments = [
        Segment(text=text + (step_end if s.text.endswith(step_end) else ""), kind=s.kind, node=s.node)
        for text, s in zip(rewritten.texts, trace.segments, strict=True)
    ]
    return trace.model_copy(update={"segments": segments, "completion": "".join(s.text for s in segments)})


class RewriteFigures:
    """The training sets in the rewritten words, one example at a time, and how it went."""

    def __init__(self) -> None:
        self._chains = self._segments = self._fallbacks = self._requests = self._dropped = 0
        self._examples = self._lost = 0
        self._rejected: Counter = Counter()
        self._dropped_for: Counter = Counter()

    def retold(self, example: Sequence[Trace], found: Mapping[str, Rewritten], *, step_end: str) -> list[Trace] | None:
        """One example as each training set has it, rewritten; None: a chain of it is dropped.

        It stands in all training sets or in none, so that a comparison stays one of as many examples of the same trees.

        Args:
            example: its chain in each training set as the template wrote it; they share their id.
            found: `chain_id` -> result, of all of them.
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
        """The figures."""
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
