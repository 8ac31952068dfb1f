"""Rewriting of mathematics chains by an instruct model (paper section 2.4): the prompts and the checks of the replies.

`prompts/math_rewrite_*.txt` hold the instructions. `prompts/math_rewrite.yaml` holds the few-shot examples and the texts that
depend on the kind of step. A reply is one paragraph, so that a chain can be parsed back into a graph by its paragraphs. Model
text is data: it is compared with its source and never run.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from astro.files import explain
from astro.process import UserError
from astro.tasks.chat import ChatTemplate
from astro.tasks.math.rewrite_check import adds, keeps, named_step
from astro.tasks.math.solution_text import BOXED, STEP_END, boxes, same_text, split_steps, unboxed, without_label
from astro.tasks.math.task import PROMPTS, Math, fill
from schemas.linearize import Fault
from schemas.records import Problem
from schemas.strict import Strict

if TYPE_CHECKING:
    from astro.cloning.rewrite import Passage, Piece, Written

EXAMPLES = PROMPTS / "math_rewrite.yaml"
STOP = (STEP_END,)
"""Stop string of a rewrite. It is one paragraph, and any text after it is not wanted."""

LONGEST, LONGEST_MORE, SHORTEST = 3.0, 300, 0.3
"""Length limits of a rewritten step: at most LONGEST times the step's characters plus LONGEST_MORE, at least SHORTEST times."""

LONGEST_JUMP = 700
"""Longest reflection or return, in characters."""

_MARKUP = re.compile(r"<\|[^|<>\n]{1,40}\|>|<｜|</?s>|<(?:pad|eos|bos|unk)>|\[/?INST\]|<</?SYS>>|\ufffd", re.IGNORECASE)
_ANSWERS = re.compile(r"\b(?:final answer|answer is|answer:|answer (?:must|should|would|will) be)", re.IGNORECASE)
_ENDED = (".", "?", "!", "…", ":")


class Example(Strict):
    """One few-shot example: a place in a chain, and the continuation that the model should write."""

    question: str = Field(min_length=1)
    chain: list[str]
    opening: str = Field(default="", description="reflection, return: the words that the text must begin with")
    given: str = Field(default="", description="step: the notes; return: the step to go back to")
    rule: str = Field(
        default="step", pattern="^(step|answer|box)$", description=("step: the key of the rule in `rules` that applies")
    )
    written: str = Field(min_length=1, description="the reply, without the opening")


class Examples(Strict):
    """The content of prompts/math_rewrite.yaml."""

    rules: dict[str, str] = Field(description="step: inside an attempt; answer: a wrong end; box: the correct end")
    nothing: str = Field(min_length=1, description="shown in place of a chain that has not begun")
    problem: str = Field(
        min_length=1, description=("shown in place of the step to go back to, if that is the problem itself")
    )
    step: list[Example]
    reflection: list[Example]
    jump: list[Example] = Field(alias="return")


@cache
def load_examples() -> Examples:
    """Load the few-shot examples.

    Raises:
        UserError: the file is not valid YAML, or a field is missing or wrong.
    """
    try:
        found = Examples.model_validate(YAML(typ="safe").load(EXAMPLES.read_text(encoding="utf-8")))
    except YAMLError as error:
        raise UserError(f"{EXAMPLES}: invalid YAML: {error}") from None
    except ValidationError as error:
        raise UserError(f"{EXAMPLES}: {explain(error)}") from None
    if missing := {"step", "answer", "box"} - set(found.rules):
        raise UserError(f"{EXAMPLES}: field 'rules': {sorted(missing)} missing")
    return found


class MathEditor:
    """Implementation of `astro.cloning.rewrite.Editor` for mathematics.

    The few-shot examples are part of the message, so that the chat template only has to render one user turn. The opening
    phrase of a reflection or return is given to the model as the start of its reply, because eval finds jumps by these
    phrases.
    """

    stop = STOP

    def __init__(self, task: Math, *, shots: int, phrases: Sequence[str] = ()):
        """Create the editor of a task. Prompts are messages if the task has a chat template.

        Args:
            shots: number of examples per prompt.
            phrases: the phrases that mark a jump; no step may begin with one.

        Raises:
            UserError: the file of examples is broken.
        """
        self._task, self._shots = task, shots
        self._chat: ChatTemplate | None = task.chat
        self._controls = self._chat.controls if self._chat is not None else ()
        self._examples = load_examples()
        self._heads = tuple(head for phrase in phrases if (head := same_text(phrase)))

    # --- prompts

    def prompt(self, problem: Problem, piece: "Piece", chain: Sequence["Passage"]) -> str:
        """As `Editor.prompt`: instruction, examples, problem, the chain so far, and the piece to write next."""
        kind = "step" if piece.kind in ("step", "wrong_step") else piece.kind
        rule = "box" if piece.last else "answer" if piece.answer is not None else "step"
        asked = self._asked(
            kind,
            question=problem.question.strip(),
            chain=[text for _, text in chain if text],
            given=piece.text if kind == "step" else piece.target or self._examples.problem,
            rule=rule,
            opening=piece.opening,
        )
        message = fill(f"math_rewrite_{kind}", examples=self._shown(kind), asked=asked).rstrip("\n")
        head = self._chat.render(message) if self._chat is not None else f"{message}\n"
        return head + piece.opening

    def _asked(self, kind: str, *, question: str, chain: Sequence[str], given: str, rule: str, opening: str) -> str:
        """Describe one place in a chain to the model."""
        return fill(
            f"math_rewrite_{kind}_case",
            question=question,
            chain=STEP_END.join(chain) or self._examples.nothing,
            given=given,
            rule=self._examples.rules[rule],
            opening=opening,
        ).rstrip("\n")

    def _shown(self, kind: str) -> str:
        """The few-shot examples for one kind of piece."""
        examples = {"step": self._examples.step, "reflection": self._examples.reflection, "return": self._examples.jump}
        shown = []
        for number, e in enumerate(examples[kind][: self._shots], 1):
            given = e.given or self._examples.problem
            asked = self._asked(kind, question=e.question, chain=e.chain, given=given, rule=e.rule, opening=e.opening)
            shown.append(f"Example {number}\n\n{asked}\n{joined(e.opening, e.written)}\n\n")
        return "".join(shown) + ("Your turn\n\n" if shown else "")

    # --- checks

    def settle(
        self, problem: Problem, piece: "Piece", chain: Sequence["Passage"], written: "Written"
    ) -> tuple[str, Fault | None]:
        """As `Editor.settle`. The first fault counts, in the order of `schemas.linearize.Fault`."""
        said = written.text.strip()
        text = joined(piece.opening, said) if piece.opening else without_label(said)
        return text, self._fault(problem, piece, chain, written, text)

    def _fault(
        self, problem: Problem, piece: "Piece", chain: Sequence["Passage"], written: "Written", text: str
    ) -> Fault | None:
        jump = piece.kind in ("reflection", "return")
        if not written.text.strip() and not (jump and piece.opening.endswith(_ENDED)):
            return "cut" if not written.finished else "empty"
        if not written.finished:
            return "cut"
        if _MARKUP.search(text) or any(control in text for control in self._controls):
            return "markup"
        if len(split_steps(text)) != 1 or (not jump and same_text(text).startswith(self._heads or "\x00")):
            return "paragraphs"
        sources = [problem.question, *(said for _, said in chain), piece.text, piece.target]
        if jump:
            return self._fault_of_jump(piece, chain, text, sources)
        if not SHORTEST * len(piece.text) <= len(text) <= LONGEST * len(piece.text) + LONGEST_MORE:
            return "length"
        if not keeps(unboxed(piece.text), unboxed(text)):
            return "lost"
        return "added" if adds(text, sources) else self._fault_of_answer(piece, text)

    def _fault_of_answer(self, piece: "Piece", text: str) -> Fault | None:
        """Fault in an answer: the last step must keep its box, a wrong end names its answer without a box, other steps have no
        answer."""
        if piece.last:
            given, wanted = boxed(text), boxed(piece.text)
            same = len(given) == len(wanted) == len(BOXED.findall(text)) > 0
            return None if same and all(map(self._equal, given, wanted)) else "answer"
        if BOXED.search(text) or len(_ANSWERS.findall(text)) > len(_ANSWERS.findall(piece.text)) + bool(piece.answer):
            return "answer"
        answer = same_text(piece.answer or "")
        return "answer" if answer in same_text(piece.text) and answer not in same_text(text) else None

    def _equal(self, given: str, wanted: str) -> bool:
        return same_text(given) == same_text(wanted) or self._task.canonical(given) == self._task.canonical(wanted)

    def _fault_of_jump(
        self, piece: "Piece", chain: Sequence["Passage"], text: str, sources: Sequence[str]
    ) -> Fault | None:
        """Fault in a jump: it must state nothing new, and a return must clearly say which step of the chain it goes back to."""
        if len(text) > LONGEST_JUMP:
            return "length"
        said = text[len(piece.opening) :]
        if adds(said, sources):
            return "added"
        if BOXED.search(text) or _ANSWERS.search(said):
            return "answer"
        if piece.kind == "reflection" or not piece.target:
            return None
        steps = [(p.node, t) for p, t in chain if p.kind in ("step", "wrong_step")]
        named = named_step(said, [t for _, t in steps])
        return None if named is not None and steps[named][0] == piece.node else "unnamed"


def boxed(text: str) -> list[str]:
    """The contents of the boxes in a text."""
    return [text[start : end - 1] for _, start, end in boxes(text)]


QUOTES = tuple("\"'“”„«»‘’")


def joined(opening: str, written: str) -> str:
    """Join an opening and its continuation, with a space where two words meet. If the continuation repeats the opening, it
    replaces it, because some chat models begin their sentence again.
    """
    if not opening or not written:
        return opening or written
    quoted = written.lstrip()[:1] in QUOTES  # the model repeats the opening inside quotation marks
    if not quoted and same_text(written).startswith(same_text(opening)):
        at = written.find(opening)
        return written if at < 0 else written[at:]
    return opening + ("" if written[0] in ".,;:!?)…" or opening[-1].isspace() else " ") + written
