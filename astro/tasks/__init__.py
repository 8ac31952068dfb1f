"""What a problem is: its prompt, the syntax of its steps, and its grading. One module per task, one Protocol for all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from schemas.records import Chain, Extraction, Problem, StepChecks, Verdict
from schemas.run import Reading

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate
    from astro.tasks.math.chain import JumpWords


class Task(Protocol):
    """All that search, linearization, training and evaluation need to know about a kind of problem."""

    step_end: str
    """The text that ends a step where steps are written one after the other; it is not part of the step."""

    stops: tuple[str, ...]
    """Where the engine ends a step that it generates; `step_end` among them."""

    grades_inline: bool
    """Grades and parses in microseconds: it is not worth a thread."""

    def identity(self, problem: Problem) -> str:
        """Equal for two problems that are the same one, however they are worded."""

    def prompt(self, problem: Problem) -> str:
        """The text that a model continues."""

    def response(self, steps: Sequence[str], rest: str = "") -> str:
        """The continuation of the prompt that consists of `steps` and then the raw text `rest`."""

    def split(self, text: str) -> list[str]:
        """The steps of a whole response, in order."""

    def is_terminal(self, step: str) -> bool:
        """Does the step hold a final answer?"""

    def state_key(self, steps: Sequence[str]) -> str:
        """Equal for sibling steps that reach the same state: the search merges them."""

    def extract(self, text: str) -> str | None:
        """Final answer of a whole response; None: it holds none."""

    def extraction(self, text: str) -> Extraction | None:
        """Where the final answer of a whole response stands; None: the task has one way to give it."""

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Grade of an extracted answer."""

    def grade_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[tuple[str | None, Verdict]]:
        """(extracted answer, grade) of whole responses to `problems`, in order; at once, where that is faster."""

    def canonical(self, answer: str) -> str:
        """Equal for answers that say the same, e.g. with equal values."""

    def checks(self, problem: Problem, steps: Sequence[str]) -> list[StepChecks] | None:
        """What can be checked in each step by itself; None: the task has no such thing."""

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Is every step of a finished solution legal, and what it says of its own result true?"""

    def abandoned(self, step: str) -> tuple[str, str]:
        """A terminal step as it reads when its attempt is given up, without the final answer: (the step, what the chain
        finds about it; "" if nothing). Joined they are the text."""

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """Names the state that a chain returns to, so that what follows depends on nearby text only."""

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """(prompt, sound): the LM is asked whether the solution is sound; an answer that begins with `sound` is a yes."""

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """A generated chain of thought as a directed graph."""

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """`parse_chain` of many, in order; at once, where that is faster."""


def get_task(
    name: str, phrases: "JumpWords | None" = None, chat: "ChatTemplate | None" = None, answers: Reading = "box"
) -> Task:
    """The task called `name`.

    Args:
        phrases: what chains say before they go back (`astro.cloning.verbalize.Phrases`), for `parse_chain`; None: unknown.
        chat: prompts are rendered through it, as messages to a chat model; None: plain text.
        answers: params.run's: how a response gives its final answer, where the task has several ways.

    Raises:
        ValueError: there is none.
    """
    if name == "math":
        from astro.tasks.math.task import Math

        return Math(phrases, chat, answers)
    if name == "countdown":
        from astro.tasks.countdown.task import Countdown

        return Countdown(chat)
    raise ValueError(f"run.task: no task is called {name!r}; there are: countdown, math")
