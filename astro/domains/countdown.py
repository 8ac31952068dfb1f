"""Countdown: "make 24 from 3 5 7 9". Combine two numbers at a time until one is left; each given number is used once.

A solution, one step per line:

    make 24 from 3 5 7 9              the question
    9 - 5 = 4 left 3 7 4              combine two numbers, say what is left (the result comes last)
    7 + 4 = 11 left 3 11
    3 * 11 = 33 make 24 got 33 no answer 3 * ( 7 + ( 9 - 5 ) )

The last step restates the target beside the result and says whether they agree before it answers: a tiny model can
verify only what stands side by side (docs/log.md). The base model answers either way; not to answer after a "no", but to
go back, is what the search traces teach.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from astro.domains.expression import ExpressionError, evaluate
from schemas.records import Chain, ChainNode, Problem, Verdict

_QUESTION = re.compile(r"make (\d{1,9}) from (\d{1,9}(?: \d{1,9})+)")
_STEP = re.compile(r"(\d{1,9}) ([-+*/]) (\d{1,9}) = (\d{1,9})")
_LEFT = re.compile(r" left (\d{1,9}(?: \d{1,9})*)")
_CHECK = re.compile(r" make (\d{1,9}) got (\d{1,9}) (yes|no)(?: answer (.*))?")
_ANSWER = "answer "

YES, NO = "yes", "no"


@dataclass(frozen=True, slots=True)
class Move:
    """`a op b = result`, with a and b taken from the state."""

    a: int
    op: str
    b: int
    result: int


def legal_moves(numbers: Sequence[int], value_max: int) -> list[Move]:
    """Every way to combine two of `numbers` into a whole result in 1..value_max, each pair of positions once.

    Differences and quotients take the larger number first; a zero or a fraction is not legal.
    """
    moves = []
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            a, b = numbers[i], numbers[j]
            high, low = max(a, b), min(a, b)
            moves.append(Move(a, "+", b, a + b))
            moves.append(Move(a, "*", b, a * b))
            moves.append(Move(high, "-", low, high - low))
            if low and high % low == 0:
                moves.append(Move(high, "/", low, high // low))
    return [m for m in moves if 0 < m.result <= value_max]


def apply_move(numbers: Sequence[int], move: Move) -> list[int]:
    """The numbers left after `move`: the others in their order, then the result."""
    rest = list(numbers)
    rest.remove(move.a)
    rest.remove(move.b)
    return [*rest, move.result]


def question(target: int, numbers: Sequence[int]) -> str:
    """The question as the model reads it."""
    return f"make {target} from {' '.join(map(str, numbers))}"


def parse_question(text: str) -> tuple[int, list[int]]:
    """(target, numbers) of a question.

    Raises:
        ValueError: it is none.
    """
    match = _QUESTION.fullmatch(text)
    if not match:
        raise ValueError(f'question: expected "make <target> from <number> <number> ...", got {text!r}')
    return int(match.group(1)), [int(n) for n in match.group(2).split()]


def write_solution(target: int, numbers: Sequence[int], moves: Sequence[Move]) -> list[str]:
    """The steps of a whole path, right or wrong, as text."""
    names = [(n, str(n)) for n in numbers]
    steps = []
    for position, move in enumerate(moves):
        a = next(n for n in names if n[0] == move.a)
        names.remove(a)
        b = next(n for n in names if n[0] == move.b)
        names.remove(b)
        last = position == len(moves) - 1
        expression = f"{a[1]} {move.op} {b[1]}"
        names.append((move.result, expression if last else f"( {expression} )"))
        step = f"{move.a} {move.op} {move.b} = {move.result}"
        if last:
            agrees = YES if move.result == target else NO
            steps.append(f"{step} make {target} got {move.result} {agrees} {_ANSWER}{expression}")
        else:
            steps.append(f"{step} left {' '.join(str(n) for n, _ in names)}")
    return steps


@dataclass(frozen=True, slots=True)
class _Read:
    """A step read in a state. `legal`: its arithmetic and operands; `faithful`: what it copies and claims beside that."""

    legal: bool
    faithful: bool
    left: tuple[int, ...]
    result: int
    ends: bool
    claim: bool | None


def _read_step(state: tuple[int, ...], target: int, line: str) -> _Read | None:
    """The step on `line`, or None where it is no step."""
    head = _STEP.match(line)
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
    left_match, check = _LEFT.fullmatch(tail), _CHECK.fullmatch(tail)
    if left_match:
        left = tuple(int(n) for n in left_match[1].split())
        faithful = Counter(left) == Counter([*rest, result]) and len(left) > 1
        return _Read(legal, faithful, left, result, False, None)
    if check:
        faithful = int(check[1]) == target and int(check[2]) == result and not rest
        return _Read(legal and not rest, faithful, (), result, True, check[3] == YES)
    return None


class Countdown:
    """The embedded domain (see the module's docstring for its text)."""

    step_end = "\n"

    def identity(self, problem: Problem) -> str:
        """The target and the sorted numbers. Raises ValueError on a question that is none."""
        target, numbers = parse_question(problem.question)
        return " ".join(map(str, (target, *sorted(numbers))))

    def prompt(self, problem: Problem) -> str:
        """The question and a line end."""
        return problem.question + self.step_end

    def response(self, steps: Sequence[str], rest: str = "") -> str:
        """Steps, one per line; a terminal step ends the response without a line end."""
        if not steps:
            return rest
        joined = self.step_end.join(steps)
        return joined if self.is_terminal(steps[-1]) and not rest else joined + self.step_end + rest

    def is_terminal(self, step: str) -> bool:
        """The last step holds the answer."""
        return _ANSWER in step

    def state_key(self, steps: Sequence[str]) -> str:
        """The numbers left, sorted: 3 + 5 and 5 + 3 are one action. An unreadable or terminal step stands for itself."""
        match = re.fullmatch(_STEP.pattern + _LEFT.pattern, steps[-1])
        return " ".join(sorted(match[5].split(), key=int)) if match else steps[-1]

    def extract(self, text: str) -> str | None:
        """What follows the last "answer", to the end of its line."""
        _, mark, tail = text.rpartition(_ANSWER)
        answer = tail.partition("\n")[0].strip() if mark else ""
        return answer or None

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Exact: the expression equals the target and uses each given number once."""
        try:
            target, numbers = parse_question(problem.question)
        except ValueError:
            return "unparseable_gold"
        if problem.gold != str(target):
            return "unparseable_gold"
        if answer is None:
            return "unparseable_prediction"
        try:
            value, used = evaluate(answer)
        except ExpressionError:
            return "unparseable_prediction"
        return "correct" if value == target and sorted(used) == sorted(numbers) else "wrong"

    def abandoned(self, step: str) -> str:
        """Without " answer ...": the check stays, the chain does not answer."""
        return step.partition(" " + _ANSWER)[0]

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """The question and the steps that stand: what comes next reads like a first attempt."""
        return self.step_end.join([problem.question, *steps]) + self.step_end

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """The solution up to its own check, for the LM to say "yes" or "no"."""
        head = steps[-1].partition(" got ")
        last = head[0] + head[1] + head[2].partition(" ")[0]
        return self.prompt(problem) + self.step_end.join([*steps[:-1], last]), YES

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """See `_ChainReader`."""
        target, numbers = parse_question(problem.question)
        reader = _ChainReader(target, tuple(numbers))
        for line in text.split(self.step_end):
            reader.read(line.strip())
        return reader.finish()


class _ChainReader:
    """Reads a chain line by line.

    A line that asks the question again is a return (the numbers may come in another order; other numbers or another target
    make all that follows unsound). The steps after it that were already written below the same
    parent are followed, not added: the jump's target is the deepest step so restated. An attempt that is restated to
    its end is a repeat; its jump's target is the step before the end. Prose is passed over; a line with "=" that is no
    step is counted as unparsed.
    """

    def __init__(self, target: int, numbers: tuple[int, ...]):
        self.target, self.numbers = target, numbers
        self.nodes: list[ChainNode] = []
        self.lefts: list[tuple[int, ...]] = []
        self.sound: list[bool] = []  # every step up to here is legal
        self.children: dict[tuple[int, str], int] = {}
        self.back_edges: list[tuple[int, int]] = []
        self.attempts: list[int] = []
        self.repeats = self.unparsed = 0
        self.at = -1  # the step that the next one continues; -1: the problem
        self.stated, self.faithful = numbers, True  # the problem as last restated, and whether that was right
        self.jump_from: int | None = None  # a return is being restated; the step written before it

    def read(self, line: str) -> None:
        """One line."""
        if not line:
            return
        asked = _QUESTION.fullmatch(line)
        if asked:
            self._settle_jump()
            self.jump_from, self.at = self.at, -1
            self.stated = tuple(int(n) for n in asked[2].split())
            self.faithful = int(asked[1]) == self.target and sorted(self.stated) == sorted(self.numbers)
            return
        state = self.stated if self.at < 0 else self.lefts[self.at]
        step = _read_step(state, self.target, line)
        if step is None:
            self.unparsed += "=" in line
            return
        text = line.partition(" " + _ANSWER)[0]
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
        sound = step.legal and (self.faithful if self.at < 0 else self.sound[self.at])
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
        """The chain read so far."""
        self._settle_jump()
        return Chain(
            nodes=self.nodes,
            back_edges=self.back_edges,
            attempts=self.attempts,
            repeats=self.repeats,
            unparsed=self.unparsed,
        )
