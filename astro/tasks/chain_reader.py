"""Parse a generated chain of thought into a directed graph, using the steps that the chain writes again when it goes back.

Grading and step checks are left to the caller (see `Draft`), who can run them for many chains in one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.records import Chain, ChainNode


class JumpWords(Protocol):
    """The phrases that a chain may use before it goes back (schemas of `phrases/*.yaml`)."""

    @property
    def reflection(self) -> Sequence[str]:
        """Phrases of doubt after a wrong step."""
        ...

    @property
    def return_step(self) -> Sequence[str]:
        """Phrases before a step that the chain restates."""
        ...

    @property
    def return_root(self) -> Sequence[str]:
        """Phrases before the restated problem."""
        ...


class StepText(Protocol):
    """The format of a task's steps, as far as the parser needs it."""

    def split(self, text: str) -> list[str]:
        """The steps of a response, in order."""

    def same(self, text: str) -> str:
        """Normalise a text, so that equal results mean equal content."""

    def step_key(self, step: str) -> str:
        """Key that is equal for a step and its restatement, which may lack the label or the mark of the answer."""

    def ends(self, step: str) -> bool:
        """Whether the step ends an attempt by itself."""

    def attempt(self, step: str) -> str | None:
        """The answer of an attempt that ends with this step, whether it was given or given up; None: no answer can be read."""

    def named_step(self, sentence: str, steps: Sequence[str]) -> int | None:
        """Index of the step in `steps` that the sentence of a return names; None: it names none."""


@dataclass
class Draft:
    """A parsed chain whose steps are not checked and whose attempts are not graded yet.

    Attributes:
        texts, parents: (steps,) as in `ChainNode`.
        answers: step that ends an attempt -> its answer; None: no answer can be read.
        back_edges, attempts, repeats, unparsed: as in `Chain`.
    """

    texts: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    answers: dict[int, str | None] = field(default_factory=dict)
    back_edges: list[tuple[int, int]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    repeats: int = 0
    unparsed: int = 0

    def path(self, index: int) -> list[str]:
        """Texts of the steps on the path from the first step to `index`."""
        steps: list[str] = []
        while index >= 0:
            steps.append(self.texts[index])
            index = self.parents[index]
        return steps[::-1]

    def finish(self, sound: Sequence[bool], right: Mapping[int, bool]) -> Chain:
        """Complete the chain with its checks.

        Args:
            sound: (steps,) True where no fault was found in the step.
            right: step that ends an attempt -> whether the attempt's answer is correct.
        """
        nodes = [
            ChainNode(
                text=text,
                parent=parent,
                valid=sound[index],
                ends=index in self.answers,
                right=right[index] if index in self.answers else None,
                claim=None,  # "let me check" announces a check, but does not say its outcome
            )
            for index, (text, parent) in enumerate(zip(self.texts, self.parents, strict=True))
        ]
        return Chain(
            nodes=nodes,
            back_edges=self.back_edges,
            attempts=self.attempts,
            repeats=self.repeats,
            unparsed=self.unparsed,
        )


def read_chain(question: str, text: str, words: JumpWords | None, how: StepText) -> Draft:
    """Parse `text`, a response to `question`, into a graph. `_Reader` describes the rules."""
    reader = _Reader(question, words, how)
    reader.read(how.split(text))
    reader.settle()
    return reader.draft


class _Reader:
    """Parses a chain step by step.

    A jump back begins with a phrase of `words`, or with a step of the path (or the problem) that is written again word
    for word. Steps that are restated after a jump are followed, not added. The target of the jump is the deepest
    restated step, or the step that the sentence of the return names in its own words (`StepText.named_step`). A return
    phrase without any known step after it goes to the problem. An attempt ends at a step that gives an answer, and at a
    step after which the chain doubts or goes back. A step that merely repeats the step before it counts as unparsed.
    """

    def __init__(self, question: str, words: JumpWords | None, how: StepText):
        self.draft, self.how = Draft(), how
        self.question = [how.same(line) for line in how.split(question)]
        self.doubts = self._heads(words.reflection if words else ())
        self.returns = self._heads([*words.return_step, *words.return_root] if words else ())
        self.return_phrases = tuple(words.return_step) if words else ()
        self.keys: list[str] = []
        self.children: dict[tuple[int, str], int] = {}
        self.at = -1  # parent of the next step; -1: the problem
        self.jump_from: int | None = None  # during a return: the step written before it
        self.restated = False  # during a return: whether a step was restated already

    def read(self, steps: Sequence[str]) -> None:
        """Read all steps. The question may take several of them."""
        plain, asked = [self.how.same(step) for step in steps], len(self.question)
        at = 0
        while at < len(steps):
            if plain[at].startswith(self.doubts):
                self._end()
            elif asked and plain[at : at + asked] == self.question:
                self._return(steps[at], to_problem=True)
                at += asked - 1
            elif plain[at].startswith(self.returns):
                self._return(steps[at], to_problem=False)
            else:
                self._step(steps[at])
            at += 1

    def _return(self, step: str, *, to_problem: bool) -> None:
        named = self._named(step)
        self._go_back(-1 if named is None else named, restated=named is not None or to_problem)

    def _step(self, step: str) -> None:
        key = self.how.step_key(step)
        known = self._known(key)
        if known is not None and self.jump_from is not None:
            if known in self.draft.answers and self.restated:
                self.settle()
                self.draft.repeats += 1
                self.draft.attempts.append(known)
            self.at, self.restated = known, True
        elif known is not None and known == self.at:
            self.draft.unparsed += 1
        elif known is not None:
            self._go_back(known, restated=True)
        else:
            self.settle()
            self._add(step, key)

    def _named(self, sentence: str) -> int | None:
        """Target of a return whose sentence names a step after the phrase; None: it names none."""
        phrase = next((phrase for phrase in self.return_phrases if sentence.startswith(phrase)), None)
        return None if phrase is None else self.how.named_step(sentence[len(phrase) :], self.draft.texts)

    def _known(self, key: str) -> int | None:
        """The step that this key restates; None: it is a new step."""
        if self.jump_from is None:
            return next((i for i in self._path() if self.keys[i] == key), None)
        if not self.restated:  # the first words after a return may name any step
            found = [i for i, other in enumerate(self.keys) if other == key]
            return found[-1] if found else None
        return self.children.get((self.at, key))

    def _path(self) -> list[int]:
        path, here = [], self.at
        while here >= 0:
            path.append(here)
            here = self.draft.parents[here]
        return path

    def _go_back(self, target: int, *, restated: bool) -> None:
        self._end()
        if self.jump_from is None:
            self.jump_from = self.at
        self.at, self.restated = target, restated

    def _add(self, step: str, key: str) -> None:
        index = len(self.keys)
        self.keys.append(key)
        self.children[(self.at, key)] = index
        self.draft.texts.append(step)
        self.draft.parents.append(self.at)
        self.at = index
        if self.how.ends(step):
            self._end()

    def _end(self) -> None:
        """End the attempt at the last step. During a return it has ended already."""
        if self.at < 0 or self.jump_from is not None or self.at in self.draft.answers:
            return
        self.draft.answers[self.at] = self.how.attempt(self.draft.texts[self.at])
        self.draft.attempts.append(self.at)

    def settle(self) -> None:
        """Complete a return once its target is known."""
        if self.jump_from is not None and self.jump_from >= 0:
            self.draft.back_edges.append((self.jump_from, self.at))
        self.jump_from, self.restated = None, False

    def _heads(self, phrases: Sequence[str]) -> tuple[str, ...]:
        """Prefixes that mark a phrase. Phrases without letters are dropped, because they would match everything."""
        return tuple(found for phrase in phrases if (found := self.how.same(phrase)))
