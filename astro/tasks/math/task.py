r"""Competition mathematics: a question in words and LaTeX, a solution in steps, and the final answer in a box.

Blank lines separate the steps of a solution (paper section 2.1):

    Step 1: The two legs are $3$ and $4$, so the hypotenuse is $\sqrt{3^2+4^2} = 5$.

    Step 2: The perimeter is $3 + 4 + 5 = 12$. The answer is $\boxed{12}$.

Grading and the checks of single steps run in the isolated workers of `astro.grading`, so that model text can neither hang
nor crash the stage.
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
"""Folder of the prompt files. `{question}` and `{solution}` are filled in."""


@cache
def template(name: str) -> str:
    """Read a prompt file. Chat models have their own files: `math_chat.txt` is the user message, `math_system.txt` the system
    message. Their chat template wraps the filled-in text.
    """
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")


def fill(name: str, **values: str) -> str:
    """Fill in the placeholders of a prompt. Braces in the values (LaTeX is full of them) stay as they are."""
    places = "|".join(values)
    return re.sub(rf"\{{({places})\}}", lambda place: values[place[1]], template(name))


class Math(Task):
    """The task of MATH-style problems. The module's docstring shows its text."""

    step_end = STEP_END
    stops = STOPS
    name = "math"
    readings = READINGS

    def same(self, text: str) -> str:
        """The text without layout."""
        return same_text(text)

    def prompt(self, problem: Problem) -> str:
        """`prompts/math.txt` with the question; for a chat model `math_chat.txt` as the user message."""
        if self.chat is None:
            return fill("math", question=problem.question.strip())
        return super().prompt(problem)

    def messages(self, problem: Problem) -> tuple[str | None, str]:
        """`prompts/math_system.txt`, and `math_chat.txt` with the question."""
        asked = fill("math_chat", question=problem.question.strip()).rstrip("\n")
        return template("math_system").rstrip("\n"), asked

    def split(self, text: str) -> list[str]:
        """Split into numbered steps or paragraphs."""
        return split_steps(text)

    def is_terminal(self, step: str) -> bool:
        """Whether the step holds a box, as the last step does."""
        return BOXED.search(step) is not None

    def state_key(self, steps: Sequence[str]) -> str:
        """The last step without number and layout, so that siblings that differ only in spacing are one action."""
        return same_text(without_label(steps[-1])) or steps[-1]

    def extract(self, text: str) -> str | None:
        """The last box after the reasoning, or another place that `answers` allows. See `astro.grading.extract`."""
        return extract(text, self.answers)

    def extraction(self, text: str) -> Extraction:
        """The place where `extract` finds the answer."""
        return found_in(text, self.answers)[1]

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Grade by `astro.grading`. A missing answer is an unparseable prediction if the gold can be read."""
        return default_pool().grade_answer(problem.gold, answer or "").verdict

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """Grade all answers in one batch on all workers."""
        pairs = [(problem.gold, answer or "") for problem, answer in zip(problems, answers, strict=True)]
        return [grade.verdict for grade in default_pool().grade_batch(pairs)]

    def grade_golds(self, problems: Sequence[Problem]) -> list[Verdict]:
        """Grade all golds in one batch. Failed ones are tried again with a longer limit, so that a busy machine drops no
        problem."""
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
        """The exact value of a number, however it is written; any other answer without its layout."""
        return exact_value(answer) or same_text(answer) or answer

    def checks(self, problem: Problem, steps: Sequence[str]) -> list[StepChecks]:
        """The result for each equality in a step: true, false, or not checkable."""
        return check_steps([(unboxed(step), problem.question) for step in steps])

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Whether the answer is readable and, if it is correct, no equality on the way is false (else it is correct by luck).

        A wrong solution may hold false equalities, because a chain that goes back learns from the place of the error.
        """
        verdict = self.grade(problem, self.extract(self.response(steps)))
        if verdict != "correct":
            return verdict == "wrong"
        return not any(check.false for check in self.checks(problem, steps))

    def abandoned(self, step: str) -> tuple[str, str]:
        """The step with its answer unboxed, because the chain does not give it as final. The finding is empty."""
        return unboxed(step), ""

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """The step that the chain returns to, word for word, or the question. A real model has the rest in its context."""
        question = problem.question.strip()
        if self.chat is not None:
            question = inert(question, self.chat.controls)  # same spelling as in the prompt
        return (steps[-1] if steps else question) + STEP_END

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """`prompts/math_vote.txt` with the whole solution."""
        asked = fill("math_vote", question=problem.question.strip(), solution=STEP_END.join(steps)).rstrip("\n")
        return (asked if self.chat is None else self.chat.render(asked)), "yes"

    def sound_steps(self, drafts: Sequence[tuple[Problem, Draft]]) -> list[bool]:
        """A step is sound if none of its equalities is false. All steps of all chains are checked in one batch."""
        return [
            not check.false for check in check_steps([(unboxed(s), p.question) for p, d in drafts for s in d.texts])
        ]

    def step_key(self, step: str) -> str:
        """The step without its number, box and layout."""
        return same_text(unboxed(without_label(step)))

    def ends(self, step: str) -> bool:
        """Whether the step holds a box."""
        return bool(boxes(step))

    def attempt(self, step: str) -> str | None:
        """The last box. If it was removed because the attempt was given up: the last formula or number."""
        return answer_of(step)

    def named_step(self, sentence: str, steps: Sequence[str]) -> int | None:
        """See `astro.tasks.math.rewrite_check`."""
        return named_step(sentence, steps)
