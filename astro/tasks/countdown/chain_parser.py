"""Parse a generated Countdown chain of thought into a directed graph."""

from collections import Counter
from dataclasses import dataclass

from astro.tasks.countdown.wording import PLAIN, STEP, YES, Wording, numbers_in
from schemas.records import Chain, ChainNode


def read_chain(target: int, numbers: list[int], text: str, wording: Wording = PLAIN) -> Chain:
    """Parse `text`, a response to "make `target` from `numbers`", into a graph. `_ChainReader` describes the rules."""
    reader = _ChainReader(target, tuple(numbers), wording)
    for line in text.split("\n"):
        reader.read(line.strip())
    return reader.finish()


@dataclass(frozen=True, slots=True)
class _Read:
    """A step parsed in a state. `legal`: arithmetic and operands are right; `faithful`: so is what the step copies and claims."""

    legal: bool
    faithful: bool
    left: tuple[int, ...]
    result: int
    ends: bool
    claim: bool | None


def _read_step(state: tuple[int, ...], target: int, line: str, wording: Wording) -> _Read | None:
    """Parse the step on `line`; None: the line is not a step."""
    head = STEP.match(line)
    if not head:
        return None
    a, op, b, result = int(head[1]), head[2], int(head[3]), int(head[4])
    rest, tail = list(state), line[head.end() :]
    legal = a in rest
    if legal:
        rest.remove(a)
        legal = b in rest
    if legal:
        rest.remove(b)
        exact = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b and a % b == 0 else None}[op]
        legal = exact == result
    left_match, check = wording.left.fullmatch(tail), wording.check.fullmatch(tail)
    if left_match:
        left = tuple(numbers_in(left_match[1]))
        faithful = Counter(left) == Counter([*rest, result]) and len(left) > 1
        return _Read(legal, faithful, left, result, False, None)
    if check:
        faithful = int(check[1]) == target and int(check[2]) == result and not rest
        return _Read(legal and not rest, faithful, (), result, True, check[3] == YES)
    return None


class _ChainReader:
    """Parses a chain line by line.

    A line that repeats the question is a return. Its numbers may come in another order; other numbers or another target make
    everything after it unsound. Steps after a return that were already written below the same parent are followed, not added.
    The target of the jump is the deepest restated step. If an attempt is restated to its end, it counts as a repeat, and the
    jump's target is the step before the end. Prose is skipped. A line with "=" that is not a step counts as unparsed.
    """

    def __init__(self, target: int, numbers: tuple[int, ...], wording: Wording):
        self.target, self.numbers, self.wording = target, numbers, wording
        self.nodes: list[ChainNode] = []
        self.lefts: list[tuple[int, ...]] = []
        self.sound: list[bool] = []  # for each step: all steps up to it are legal and lose no number
        self.children: dict[tuple[int, str], int] = {}
        self.back_edges: list[tuple[int, int]] = []
        self.attempts: list[int] = []
        self.repeats = self.unparsed = 0
        self.at = -1  # parent of the next step; -1: the problem
        self.stated, self.faithful = numbers, True  # the last restatement of the problem, and whether it was right
        self.jump_from: int | None = None  # during a return: the step written before it

    def read(self, line: str) -> None:
        """Read one line."""
        if not line:
            return
        asked = self.wording.question.fullmatch(line)
        if asked:
            self._settle_jump()
            self.jump_from, self.at = self.at, -1
            self.stated = tuple(numbers_in(asked[2]))
            self.faithful = int(asked[1]) == self.target and sorted(self.stated) == sorted(self.numbers)
            return
        state = self.stated if self.at < 0 else self.lefts[self.at]
        step = _read_step(state, self.target, line, self.wording)
        if step is None:
            self.unparsed += "=" in line
            return
        text = line.partition(" " + self.wording.answers)[0]
        known = self.children.get((self.at, text)) if self.faithful else None
        if self.jump_from is not None and known is not None and not step.ends:
            self.at = known
            return
        self._settle_jump()
        if known is not None and step.ends:
            self.repeats += 1
            self.attempts.append(known)
            self.at = known
            return
        self._add(text, step)

    def _add(self, text: str, step: _Read) -> None:
        # A list that loses a number makes all steps below it unsound. A wrong word in the closing check does not.
        sound = step.legal and (step.ends or step.faithful) and (self.faithful if self.at < 0 else self.sound[self.at])
        index = len(self.nodes)
        if self.faithful:
            self.children[(self.at, text)] = index
        self.nodes.append(
            ChainNode(
                text=text,
                parent=self.at,
                valid=step.legal and step.faithful and self.faithful,
                ends=step.ends,
                right=(sound and step.result == self.target) if step.ends else None,
                claim=step.claim,
            )
        )
        self.lefts.append(step.left)
        self.sound.append(sound)
        if step.ends:
            self.attempts.append(index)
        self.at = index

    def _settle_jump(self) -> None:
        if self.jump_from is not None and self.jump_from >= 0:
            self.back_edges.append((self.jump_from, self.at))
        self.jump_from = None

    def finish(self) -> Chain:
        """The chain as read so far."""
        self._settle_jump()
        return Chain(
            nodes=self.nodes,
            back_edges=self.back_edges,
            attempts=self.attempts,
            repeats=self.repeats,
            unparsed=self.unparsed,
        )
