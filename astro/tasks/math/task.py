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

from astro.grading import Pool, default_pool, extract
from astro.grading.extract import found_in
from astro.grading.steps import check_steps, exact_value
from astro.special_tokens import inert
from astro.tasks.base import Task
from astro.tasks.chain_reader import Draft
from astro.tasks.math.rewrite_check import named_step
from astro.tasks.math.solution_text import (
    BOXED,
    STEP_END,
    STOPS,
    answer_of,
    boxes,
    same_text,
    split_steps,
    unboxed,
    without_label,
)
from schemas.records import Extraction, Problem, StepChecks, Verdict
from schemas.run import READINGS

PATIENT_S = 20.0
"""Seconds that a gold may take before it counts as unreadable."""

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


class Math(Task):
    """MATH-style problems (see the module's docstring for their text)."""

    step_end = STEP_END
    stops = STOPS
    name = "math"
    readings = READINGS

    def same(self, text: str) -> str:
        """The text without what only lays it out."""
        return same_text(text)

    def prompt(self, problem: Problem) -> str:
        """`prompts/math.txt` about the question; for a chat model `math_chat.txt`, as its user's message."""
        if self.chat is None:
            return fill("math", question=problem.question.strip())
        return super().prompt(problem)

    def messages(self, problem: Problem) -> tuple[str | None, str]:
        """`prompts/math_system.txt`, and `math_chat.txt` about the question."""
        asked = fill("math_chat", question=problem.question.strip()).rstrip("\n")
        return template("math_system").rstrip("\n"), asked

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

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """All at once, on all workers."""
        pairs = [(problem.gold, answer or "") for problem, answer in zip(problems, answers, strict=True)]
        return [grade.verdict for grade in default_pool().grade_batch(pairs)]

    def grade_golds(self, problems: Sequence[Problem]) -> list[Verdict]:
        """All at once; then once more, with patience, what was not right: a busy machine must not decide what is a problem."""
        pairs = [(problem.gold, problem.gold) for problem in problems]
        verdicts = {pair: grade.verdict for pair, grade in zip(pairs, default_pool().grade_batch(pairs), strict=True)}
        doubtful = [pair for pair, verdict in verdicts.items() if verdict != "correct"]
        if doubtful:
            pool = Pool(workers=1, time_limit=PATIENT_S)
            try:
                verdicts.update((pair, g.verdict) for pair, g in zip(doubtful, pool.grade_batch(doubtful), strict=True))
            finally:
                pool.close()
        return [verdicts[pair] for pair in pairs]

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

    def sound_steps(self, drafts: Sequence[tuple[Problem, Draft]]) -> list[bool]:
        """No equality of the step is false; every step of every chain is checked in one batch."""
        return [
            not check.false for check in check_steps([(unboxed(s), p.question) for p, d in drafts for s in d.texts])
        ]

    def step_key(self, step: str) -> str:
        """The step without its number, its box and its layout."""
        return same_text(unboxed(without_label(step)))

    def ends(self, step: str) -> bool:
        """A box ends an attempt."""
        return bool(boxes(step))

    def attempt(self, step: str) -> str | None:
        """The last box, else (given up, the box was taken away) the last formula or number."""
        return answer_of(step)

    def named_step(self, sentence: str, steps: Sequence[str]) -> int | None:
        """See `astro.tasks.math.rewrite_check`."""
        return named_step(sentence, steps)
