"""Competition mathematics: a question in words and LaTeX, solved in steps, with the final answer in a box.

A solution, its steps apart by blank lines (paper section 2.1):

    Step 1: The two legs are $3$ and $4$, so the hypotenuse is $\\sqrt{3^2+4^2} = 5$.

    Step 2: The perimeter is $3 + 4 + 5 = 12$. The answer is $\\boxed{12}$.

Grading and the checks of single steps run in the isolated workers of `astro.grading`: what a model wrote can neither hang
nor end the stage.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from astro.grading import default_pool, extract
from astro.grading.extract import found_in
from astro.grading.steps import check_steps, exact_value
from astro.special_tokens import inert
from astro.tasks.chat import ChatTemplate
from astro.tasks.math.chain import JumpWords, read_chain
from astro.tasks.math.text import BOXED, STEP_END, STOPS, same_text, split_steps, unboxed, without_label
from schemas.records import Chain, Extraction, Problem, StepChecks, Verdict
from schemas.run import Reading

PROMPTS = Path(__file__).parent / "prompts"
"""The texts that a model is asked with; `{question}` and `{solution}` are filled in."""


@cache
def template(name: str) -> str:
    """A prompt file. For chat models there are files of their own (`math_chat.txt` is the user's message, `math_system.txt`
    what the system says before it); their chat template wraps the filled-in text."""
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")


def fill(name: str, **values: str) -> str:
    """A prompt with its places filled in; braces of the values (LaTeX is full of them) stay as they are."""
    places = "|".join(values)
    return re.sub(rf"\{{({places})\}}", lambda place: values[place[1]], template(name))


class Math:
    """MATH-style problems (see the module's docstring for their text)."""

    step_end = STEP_END
    stops: tuple[str, ...] = STOPS
    grades_inline = False

    def __init__(self, phrases: JumpWords | None = None, chat: ChatTemplate | None = None, answers: Reading = "box"):
        """Of plain models, or of those that take messages.

        Args:
            phrases: what chains say before they go back, for `parse_chain`; None: returns are known by restated steps only.
            chat: renders prompts; None: they are plain text.
            answers: what of a response is its answer, see `astro.grading.extract`.
        """
        self.phrases, self.chat, self.answers = phrases, chat, answers

    def identity(self, problem: Problem) -> str:
        """The question without what only lays it out."""
        return same_text(problem.question)

    def prompt(self, problem: Problem) -> str:
        """`prompts/math.txt` about the question; for a chat model `math_chat.txt`, as its user's message."""
        if self.chat is None:
            return fill("math", question=problem.question.strip())
        asked = fill("math_chat", question=problem.question.strip()).rstrip("\n")
        return self.chat.render(asked, system=template("math_system").rstrip("\n"))

    def response(self, steps: Sequence[str], rest: str = "") -> str:
        """Steps, blank lines between them; a terminal step ends the response."""
        if not steps:
            return rest
        joined = STEP_END.join(steps)
        return joined if self.is_terminal(steps[-1]) and not rest else joined + STEP_END + rest

    def split(self, text: str) -> list[str]:
        """Numbered steps or paragraphs."""
        return split_steps(text)

    def is_terminal(self, step: str) -> bool:
        """The last step holds a box."""
        return BOXED.search(step) is not None

    def state_key(self, steps: Sequence[str]) -> str:
        """The last step without its number and layout: siblings that say the same in other spacing are one action."""
        return same_text(without_label(steps[-1])) or steps[-1]

    def extract(self, text: str) -> str | None:
        """See `astro.grading.extract`: the last box after the reasoning, or what else `answers` takes for one."""
        return extract(text, self.answers)

    def extraction(self, text: str) -> Extraction:
        """Where `extract` finds the answer."""
        return found_in(text, self.answers)[1]

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """By `astro.grading`; no answer is an unparseable prediction, where the gold can be read."""
        return default_pool().grade_answer(problem.gold, answer or "").verdict

    def grade_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[tuple[str | None, Verdict]]:
        """All at once, on all workers."""
        answers = [self.extract(text) for text in texts]
        golds = [problem.gold for problem in problems]
        return list(zip(answers, self._verdicts(list(zip(golds, answers, strict=True))), strict=True))

    def canonical(self, answer: str) -> str:
        """The exact value of a number, however it is written; else the answer without its layout."""
        return exact_value(answer) or same_text(answer) or answer

    def checks(self, problem: Problem, steps: Sequence[str]) -> list[StepChecks]:
        """What the equalities in each step are: true, false, or not checkable."""
        return check_steps([(unboxed(step), problem.question) for step in steps])

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """A readable answer, and, where it is right, no false equality on the way (right by luck, else).

        A wrong solution may hold false equalities: where it went wrong is what a chain that goes back learns from.
        """
        verdict = self.grade(problem, self.extract(self.response(steps)))
        if verdict != "correct":
            return verdict == "wrong"
        return not any(check.false for check in self.checks(problem, steps))

    def abandoned(self, step: str) -> tuple[str, str]:
        """Its answer without the box: the chain has come to it and does not give it. It finds nothing about it yet."""
        return unboxed(step), ""

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """The step that the chain returns to, word for word, or the question: a real model has the rest in its context."""
        question = problem.question.strip()
        if self.chat is not None:
            question = inert(question, self.chat.controls)  # as it stands in the prompt
        return (steps[-1] if steps else question) + STEP_END

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """`prompts/math_vote.txt` about the whole solution."""
        asked = fill("math_vote", question=problem.question.strip(), solution=STEP_END.join(steps)).rstrip("\n")
        return (asked if self.chat is None else self.chat.render(asked)), "yes"

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """See `astro.tasks.math.chain`."""
        return self.parse_many([problem], [text])[0]

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """All at once: every step checked and every attempt graded in one batch."""
        drafts = [read_chain(p.question, text, self.phrases) for p, text in zip(problems, texts, strict=True)]
        pairs = list(zip(problems, drafts, strict=True))
        grades = iter(self._verdicts([(p.gold, d.answers[end]) for p, d in pairs for end in d.answers]))
        checks = iter(check_steps([(unboxed(step), p.question) for p, d in pairs for step in d.texts]))
        return [
            draft.finish(
                sound=[not next(checks).false for _ in draft.texts],
                right={end: next(grades) == "correct" for end in draft.answers},
            )
            for draft in drafts
        ]

    def _verdicts(self, pairs: Sequence[tuple[str, str | None]]) -> list[Verdict]:
        """Of (gold, answer) pairs."""
        return [grade.verdict for grade in default_pool().grade_batch([(gold, answer or "") for gold, answer in pairs])]
