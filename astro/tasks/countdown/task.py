"""Countdown: "make 24 from 3 5 7 9". Combine two numbers at a time until one is left; each given number is used once.

A solution, one step per line:

    make 24 from 3 5 7 9              the question
    9 - 5 = 4 left 3 7 4              combine two numbers, say what is left (the result comes last)
    7 + 4 = 11 left 3 11
    3 * 11 = 33 make 24 got 33 no answer 3 * ( 7 + ( 9 - 5 ) )

The last step restates the target beside the result and says whether they agree before it answers: a tiny model can
verify only what stands side by side (docs/log.md). The base model answers either way; not to answer after a "no", but to
go back, is what the search traces teach.

A chat model is asked by messages, and writes what a person would:

    9 - 5 = 4, which leaves 3, 7 and 4.
    7 + 4 = 11, which leaves 3 and 11.
    3 * 11 = 33. We need 24 and have 33: no. Answer: 3 * (7 + (9 - 5))
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from astro.tasks.countdown.chain import read_chain
from astro.tasks.countdown.expression import ExpressionError, evaluate
from astro.tasks.countdown.steps import PLAIN, STEP, WORDS, YES, numbers_in, parse_question, prompt_of
from schemas.records import Chain, Problem, Verdict

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate


class Countdown:
    """The embedded task (see the module's docstring for its text)."""

    step_end = "\n"
    stops: tuple[str, ...] = ("\n",)
    grades_inline = True

    def __init__(self, chat: "ChatTemplate | None" = None):
        """chat: renders prompts for a chat model; None: they are plain text."""
        self.chat, self.wording = chat, WORDS if chat else PLAIN

    def identity(self, problem: Problem) -> str:
        """The target and the sorted numbers. Raises ValueError on a question that is none."""
        target, numbers = parse_question(problem.question)
        return " ".join(map(str, (target, *sorted(numbers))))

    def prompt(self, problem: Problem) -> str:
        """The question and a line end; for a chat model a conversation that ends where the model answers."""
        return prompt_of(problem.question, self.chat)

    def response(self, steps: Sequence[str], rest: str = "") -> str:
        """Steps, one per line; a terminal step ends the response without a line end."""
        if not steps:
            return rest
        joined = self.step_end.join(steps)
        return joined if self.is_terminal(steps[-1]) and not rest else joined + self.step_end + rest

    def split(self, text: str) -> list[str]:
        """One step per line."""
        return text.split(self.step_end)

    def is_terminal(self, step: str) -> bool:
        """The last step holds the answer."""
        return self.wording.answers in step

    def state_key(self, steps: Sequence[str]) -> str:
        """The numbers left, sorted: 3 + 5 and 5 + 3 are one action. An unreadable or terminal step stands for itself."""
        match = re.fullmatch(STEP.pattern + self.wording.left.pattern, steps[-1])
        return " ".join(map(str, sorted(numbers_in(match[5])))) if match else steps[-1]

    def extract(self, text: str) -> str | None:
        """What follows the last "answer", to the end of its line."""
        _, mark, tail = text.rpartition(self.wording.answers)
        answer = tail.partition("\n")[0].strip() if mark else ""
        return (answer.removesuffix(".") if self.chat else answer) or None  # a person ends a sentence

    def extraction(self, text: str) -> None:
        """There is one way to give an answer."""

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

    def grade_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[tuple[str | None, Verdict]]:
        """One by one: a grade takes microseconds."""
        answers = [self.extract(text) for text in texts]
        return [(answer, self.grade(problem, answer)) for problem, answer in zip(problems, answers, strict=True)]

    def canonical(self, answer: str) -> str:
        """The value of the expression: 7 + 15 and 15 + 7 are one answer. What is no expression stands for itself."""
        try:
            return str(evaluate(answer)[0])
        except ExpressionError:
            return answer

    def checks(self, problem: Problem, steps: Sequence[str]) -> None:
        """None: a step is legal or not in the state that it continues, see `parse_chain`."""

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Legal and faithful to the end, and the closing yes / no agrees with the numbers and with the grade."""
        text = self.step_end.join(steps)
        nodes = self.parse_chain(problem, text).nodes
        if len(nodes) != len(steps) or not nodes[-1].ends:
            return False
        right = self.grade(problem, self.extract(text)) == "correct"
        return all(node.valid for node in nodes) and nodes[-1].claim == nodes[-1].right == right

    def abandoned(self, step: str) -> tuple[str, str]:
        """Without " answer ...": the check (" make <target> got <value> no") stays, the chain does not answer."""
        kept = step.partition(" " + self.wording.answers)[0]
        check = self.wording.check.search(kept)
        at = check.start() if check else len(kept)
        return kept[:at], kept[at:]

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """The question and the steps that stand: what comes next reads like a first attempt."""
        asked = self.wording.ask(*parse_question(problem.question))
        return self.step_end.join([asked, *steps]) + self.step_end

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """The solution up to its own check, for the LM to say "yes" or "no"."""
        head = steps[-1].partition(self.wording.checks.partition("{target}")[2].partition("{value}")[0])
        last = head[0] + head[1] + head[2].partition(" ")[0]
        return self.prompt(problem) + self.step_end.join([*steps[:-1], last]), YES

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """See `astro.tasks.countdown.chain`."""
        return read_chain(*parse_question(problem.question), text, self.wording)

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """One by one."""
        return [self.parse_chain(problem, text) for problem, text in zip(problems, texts, strict=True)]
