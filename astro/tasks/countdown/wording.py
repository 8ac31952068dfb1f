"""The text format of Countdown: questions, steps and legal moves. `astro.tasks.countdown.chain_parser` parses it.

There are two wordings. In the plain one each word is a token of the embedded model. The other one reads like a person's text
and is for chat models. The base corpus depends only on this file and `sets`, so that an edit of grading or parsing does not
train the base again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate

NUMBER = r"\d{1,9}"
STEP = re.compile(rf"({NUMBER}) ([-+*/]) ({NUMBER}) = ({NUMBER})")
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Wording:
    """The wording of questions and steps. The patterns that parse them are derived from it."""

    asks: str
    leaves: str
    """Introduces the list of remaining numbers at the end of a step."""
    checks: str
    """Introduces the check at the end of the last step: target, result, and whether they agree."""
    answers: str
    """Introduces the answer, after the check and a space."""
    commas: tuple[str, str]
    """Separators of a list: between two numbers, and before the last one."""
    brackets: tuple[str, str]

    def _pattern(self, text: str) -> str:
        between = "|".join(dict.fromkeys(self.commas))
        several = rf"({NUMBER}(?:(?:{between}){NUMBER})*)"
        places = {"target": f"({NUMBER})", "value": f"({NUMBER})", "numbers": several, "claim": f"({YES}|{NO})"}
        parts = re.split(r"\{(\w+)\}", text)
        return "".join(places[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))

    @cached_property
    def question(self) -> re.Pattern[str]:
        """Pattern of a question: target, numbers (at least two)."""
        return re.compile(self._pattern(self.asks).replace(")*)", ")+)"))

    @cached_property
    def left(self) -> re.Pattern[str]:
        """Pattern of the remaining numbers after a calculation."""
        return re.compile(self._pattern(self.leaves))

    @cached_property
    def check(self) -> re.Pattern[str]:
        """Pattern of the check after the last calculation: target, value, claim, answer."""
        return re.compile(self._pattern(self.checks) + rf"(?: {re.escape(self.answers)}(.*))?")

    def listed(self, numbers: Sequence[int | str]) -> str:
        """Format numbers as a list."""
        *first, last = map(str, numbers)
        return self.commas[0].join(first) + self.commas[1] + last if first else last

    def ask(self, target: int, numbers: Sequence[int]) -> str:
        """Format a question."""
        return self.asks.format(target=target, numbers=self.listed(numbers))


def numbers_in(text: str) -> list[int]:
    """The whole numbers in a text that a pattern of a wording matched."""
    return [int(number) for number in re.findall(NUMBER, text)]


PLAIN = Wording(
    asks="make {target} from {numbers}",
    leaves=" left {numbers}",
    checks=" make {target} got {value} {claim}",
    answers="answer ",
    commas=(" ", " "),
    brackets=("( ", " )"),
)
"""Wording for the embedded model. Problems are always stored in it, whatever wording the model sees."""

WORDS = Wording(
    asks="Make {target} from {numbers}.",
    leaves=", which leaves {numbers}.",
    checks=". We need {target} and have {value}: {claim}.",
    answers="Answer: ",
    commas=(", ", " and "),
    brackets=("(", ")"),
)
"""Wording for chat models."""

SYSTEM = (
    "You solve number puzzles, one calculation to a line. Each line combines two of the numbers that are left with +, -, * or / "
    "and says which numbers are left then. The last line compares the result with the target and gives the answer as one "
    "expression that uses each number once."
)
"""System message for chat models."""

QUESTION, LEFT, CHECK, ANSWER = PLAIN.question, PLAIN.left, PLAIN.check, PLAIN.answers


@dataclass(frozen=True, slots=True)
class Move:
    """The move `a op b = result`, with a and b taken from the state."""

    a: int
    op: str
    b: int
    result: int


def legal_moves(numbers: Sequence[int], value_max: int) -> list[Move]:
    """All moves that combine two of `numbers` into a whole result from 1 to value_max; each pair of positions once.

    Differences and quotients take the larger number first. Zero and fractions are not legal.
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
    """The numbers after `move`: the unused ones in their order, then the result."""
    rest = list(numbers)
    rest.remove(move.a)
    rest.remove(move.b)
    return [*rest, move.result]


def question(target: int, numbers: Sequence[int]) -> str:
    """The question in the plain wording."""
    return PLAIN.ask(target, numbers)


def prompt_of(asked: str, chat: "ChatTemplate | None" = None) -> str:
    """The prompt for a question in the plain wording, rendered through the chat template if there is one.

    Raises:
        ValueError: `asked` is not a question.
    """
    if chat is None:
        return asked + "\n"
    return chat.render(WORDS.ask(*parse_question(asked)), system=SYSTEM)


def parse_question(text: str) -> tuple[int, list[int]]:
    """Parse a question into (target, numbers).

    Raises:
        ValueError: the text is not a question.
    """
    match = QUESTION.fullmatch(text)
    if not match:
        raise ValueError(f'question: expected "make <target> from <number> <number> ...", got {text!r}')
    return int(match.group(1)), [int(n) for n in match.group(2).split()]


def write_solution(target: int, numbers: Sequence[int], moves: Sequence[Move], wording: Wording = PLAIN) -> list[str]:
    """Write the steps of a whole path, right or wrong."""
    names = [(n, str(n)) for n in numbers]
    before, behind = wording.brackets
    steps = []
    for position, move in enumerate(moves):
        a = next(n for n in names if n[0] == move.a)
        names.remove(a)
        b = next(n for n in names if n[0] == move.b)
        names.remove(b)
        last = position == len(moves) - 1
        expression = f"{a[1]} {move.op} {b[1]}"
        names.append((move.result, expression if last else f"{before}{expression}{behind}"))
        step = f"{move.a} {move.op} {move.b} = {move.result}"
        if last:
            agrees = YES if move.result == target else NO
            check = wording.checks.format(target=target, value=move.result, claim=agrees)
            steps.append(f"{step}{check} {wording.answers}{expression}")
        else:
            steps.append(step + wording.leaves.format(numbers=wording.listed([n for n, _ in names])))
    return steps


def vocabulary(largest: int) -> list[str]:
    """The words of the plain wording and the whole numbers up to `largest`."""
    words = ["\n", "make", "from", "left", "got", "yes", "no", "answer", "+", "-", "*", "/", "=", "(", ")"]
    return [*words, *map(str, range(largest + 1))]
