"""The text of Countdown: its questions, its steps, and what may be combined. Written here, read back in `countdown_chain`.

The base corpus stands on this file and `countdown_sets` alone, so that no edit of grading or of chain reading trains it anew.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

QUESTION = re.compile(r"make (\d{1,9}) from (\d{1,9}(?: \d{1,9})+)")
STEP = re.compile(r"(\d{1,9}) ([-+*/]) (\d{1,9}) = (\d{1,9})")
LEFT = re.compile(r" left (\d{1,9}(?: \d{1,9})*)")
CHECK = re.compile(r" make (\d{1,9}) got (\d{1,9}) (yes|no)(?: answer (.*))?")
ANSWER = "answer "

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
    match = QUESTION.fullmatch(text)
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
            steps.append(f"{step} make {target} got {move.result} {agrees} {ANSWER}{expression}")
        else:
            steps.append(f"{step} left {' '.join(str(n) for n, _ in names)}")
    return steps
