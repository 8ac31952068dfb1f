"""The text of Countdown: its questions, its steps, and what may be combined. Written here, read back in `countdown_chain`.

There are two wordings: a plain one, in which each word is a token of the embedded model, and one that a person would write,
for chat models. The base corpus stands on this file and `countdown_sets` alone, so that no edit of grading or of chain reading
trains it anew.
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
    """How questions and steps are written; the patterns that read them back follow from it."""

    asks: str
    leaves: str
    """Ends a step: the numbers that are left."""
    checks: str
    """Ends the last step: the target beside the result, and whether they agree."""
    answers: str
    """Before the answer, behind the check and a space."""
    commas: tuple[str, str]
    """Between two numbers; between the last two."""
    brackets: tuple[str, str]

    def _pattern(self, text: str) -> str:
        between = "|".join(dict.fromkeys(self.commas))
        several = rf"({NUMBER}(?:(?:{between}){NUMBER})*)"
        places = {"target": f"({NUMBER})", "value": f"({NUMBER})", "numbers": several, "claim": f"({YES}|{NO})"}
        parts = re.split(r"\{(\w+)\}", text)
        return "".join(places[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))

    @cached_property
    def question(self) -> re.Pattern[str]:
        """A question: target, numbers (two at least)."""
        return re.compile(self._pattern(self.asks).replace(")*)", ")+)"))

    @cached_property
    def left(self) -> re.Pattern[str]:
        """The numbers that are left, behind a calculation."""
        return re.compile(self._pattern(self.leaves))

    @cached_property
    def check(self) -> re.Pattern[str]:
        """The check behind the last calculation: target, value, claim, answer."""
        return re.compile(self._pattern(self.checks) + rf"(?: {re.escape(self.answers)}(.*))?")

    def listed(self, numbers: Sequence[int | str]) -> str:
        """Numbers one after the other."""
        *first, last = map(str, numbers)
        return self.commas[0].join(first) + self.commas[1] + last if first else last

    def ask(self, target: int, numbers: Sequence[int]) -> str:
        """A question."""
        return self.asks.format(target=target, numbers=self.listed(numbers))


def numbers_in(text: str) -> list[int]:
    """The whole numbers of a text that a pattern of a wording matched."""
    return [int(number) for number in re.findall(NUMBER, text)]


PLAIN = Wording(
    asks="make {target} from {numbers}",
    leaves=" left {numbers}",
    checks=" make {target} got {value} {claim}",
    answers="answer ",
    commas=(" ", " "),
    brackets=("( ", " )"),
)
"""For the embedded model. Problems are stored in it, whatever the model is asked in."""

WORDS = Wording(
    asks="Make {target} from {numbers}.",
    leaves=", which leaves {numbers}.",
    checks=". We need {target} and have {value}: {claim}.",
    answers="Answer: ",
    commas=(", ", " and "),
    brackets=("(", ")"),
)
"""For chat models."""

SYSTEM = (
    "You solve number puzzles, one calculation to a line. Each line combines two of the numbers that are left with +, -, * or / "
    "and says which numbers are left then. The last line compares the result with the target and gives the answer as one "
    "expression that uses each number once."
)
"""What a chat model is told before the question."""

QUESTION, LEFT, CHECK, ANSWER = PLAIN.question, PLAIN.left, PLAIN.check, PLAIN.answers


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
    return PLAIN.ask(target, numbers)


def prompt_of(asked: str, chat: "ChatTemplate | None" = None) -> str:
    """The text that a model continues, of a question as `question` writes it; rendered, where there is a chat template.

    Raises:
        ValueError: it is no question.
    """
    if chat is None:
        return asked + "\n"
    return chat.render(WORDS.ask(*parse_question(asked)), system=SYSTEM)


def parse_question(text: str) -> tuple[int, list[int]]:
    """(target, numbers) of a question.

    Raises:
        ValueError: it is none.
    """
    match = QUESTION.fullmatch(text)
    if not match:
        raise ValueError(f'question: expected "make <target> from <number> <number> ...", got {text!r}')
    return int(match.group(1)), [int(n) for n in match.group(2).split()]


def write_solution(target: int, numbers: Sequence[int], moves: Sequence[Move], wording: Wording = PLAIN) -> list[str]:
    """The steps of a whole path, right or wrong, as text."""
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
    """The words of the plain wording, and the whole numbers up to `largest`."""
    words = ["\n", "make", "from", "left", "got", "yes", "no", "answer", "+", "-", "*", "/", "=", "(", ")"]
    return [*words, *map(str, range(largest + 1))]
