"""What a kind of problem is. `Task` is all that the stages know of one, and what a file of your own subclasses."""

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from astro.runtime import UserError
from astro.special_tokens import inert
from astro.tasks.chain_reader import Draft, JumpWords, read_chain
from schemas.base_model import CorpusParams
from schemas.problems import ProblemsParams
from schemas.records import Chain, Extraction, Problem, StepChecks, Verdict
from schemas.run import Reading

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate

GOLDS_TRIED = 20
"""Golds of generated problems that are graded before anything long runs."""

MAX_TRIES = 200
"""Draws without a new problem before a generator is called exhausted."""


class TaskError(UserError):
    """A task cannot do what is asked of it; says what and why."""


class Task:
    """A kind of problem: how it is asked, how its solutions are written and read, and how an answer is graded.

    A file of your own holds one subclass. `score` is all that it must have; problems come from `problem`, or from files
    (`problems.source: files`).

        from astro.tasks import Task

        class Sums(Task):
            def problem(self, random, level):
                numbers = [random.randint(1, 50) for _ in range(level)]
                return {"question": "add " + " ".join(map(str, numbers)), "gold": str(sum(numbers))}

            def score(self, problem, answer):
                return answer == problem.gold

    A response to it is a list of steps, one to a line, and the last one gives the answer:

        7 + 5 = 12
        12 + 9 = 21
        Answer: 21

    The class runs in processes of its own, with limits of time and memory. Each method must depend on its arguments alone.

    Attributes:
        options: params.yaml's `run.options`, over `defaults`.
    """

    # --- what a file of your own may set

    step_end: str = "\n"
    """Ends a step; it is not part of the step."""

    answer_mark: str = "Answer: "
    """Stands before the final answer."""

    answer_end: str = "\n"
    """Ends the final answer; the end of the response does, too."""

    tried_mark: str = "Tried: "
    """Takes the place of `answer_mark` where a chain gives an attempt up and goes back."""

    system: str = ""
    """What a chat model is told before the question; "": nothing."""

    right_from: float = 1.0
    """The lowest score that is right."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """The options that params.yaml may set, and their values where it does not."""

    # --- what a file of your own may define

    def problem(self, random: random.Random, level: int) -> Mapping[str, Any]:
        """A new problem of a level (1, 2, ...): {"question": str, "gold": str}, and "data" (JSON) for what else `score` needs.

        All chance must come from `random`. Without this method problems come from files.
        """
        raise NotImplementedError

    def score(self, problem: Problem, answer: str) -> float | bool:
        """How right an answer is, from 0 to 1; `right_from` says what counts as right. An exception: it cannot be read."""
        raise NotImplementedError

    def ask(self, problem: Problem) -> str:
        """What the model is asked: the prompt of a plain model, with a line end behind it, or the message to a chat model."""
        return problem.question

    def solution(self, random: random.Random, problem: Problem) -> Sequence[str]:
        """The steps of an attempt in one go, right or wrong, without going back, for `base.source: train` and `base.warmup`.

        All chance must come from `random`. Without this method the base is a pretrained one as it is.
        """
        raise NotImplementedError

    def extract(self, text: str) -> str | None:
        """The final answer of a whole response; None: it holds none."""
        return self._behind(self.answer_mark, text)

    def valid(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Does the last of `steps` follow the rules in the state that those before it reach? By default nothing is checked."""
        return True

    def state_key(self, steps: Sequence[str]) -> str:
        """Equal for sibling steps that reach the same state: the search merges them. By default the text of the last step."""
        return self.same(steps[-1]) or steps[-1]

    # --- what the stages use, too. Overridden by tasks of this project alone.

    name: str = ""
    readings: tuple[Reading, ...] = ()
    """The ways to read an answer, where there are several."""
    makes_problems: bool = True
    """Whether `problem` is defined: else all problems come from files."""
    grades_inline: bool = False
    """Grades and parses in microseconds: it is not worth a thread."""

    def __init__(
        self,
        phrases: JumpWords | None = None,
        chat: "ChatTemplate | None" = None,
        answers: Reading = "box",
        options: Mapping[str, Any] | None = None,
    ):
        """See `astro.tasks.get_task`."""
        self.options = {**self.defaults, **(options or {})}
        self.phrases, self.chat, self.answers = phrases, chat, answers

    @property
    def stops(self) -> tuple[str, ...]:
        """Where the engine ends a step that it generates; `step_end` among them."""
        return (self.step_end,)

    def same(self, text: str) -> str:
        """Equal for texts that say the same: without case and layout."""
        return " ".join(text.split()).lower()

    def identity(self, problem: Problem) -> str:
        """Equal for two problems that are the same one, however they are worded."""
        return self.same(problem.question)

    def prompt(self, problem: Problem) -> str:
        """The text that a model continues; for a chat model a conversation that ends where the model answers."""
        if self.chat is None:
            return self.ask(problem).rstrip("\n") + "\n"
        system, said = self.messages(problem)
        return self.chat.render(said, system=system)

    def messages(self, problem: Problem) -> tuple[str | None, str]:
        """(what a chat model is told before, what its user says)."""
        return self.system or None, self.ask(problem)

    def example(self) -> Problem:
        """A short problem, for dry runs."""
        return Problem(id="example", task=self.name, question="?", gold="?", level=1, chance=None)

    def response(self, steps: Sequence[str], rest: str = "") -> str:
        """The continuation of the prompt that consists of `steps` and then the raw text `rest`."""
        if not steps:
            return rest
        joined = self.step_end.join(steps)
        return joined if self.is_terminal(steps[-1]) and not rest else joined + self.step_end + rest

    def split(self, text: str) -> list[str]:
        """The steps of a whole response, in order; none of them is blank."""
        return [step for step in text.split(self.step_end) if step.strip()]

    def is_terminal(self, step: str) -> bool:
        """Does the step hold a final answer?"""
        return self.extract(step) is not None

    def extraction(self, text: str) -> Extraction | None:
        """Where the final answer of a whole response stands; None: there is one way to give it."""
        return None

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Grade of an extracted answer."""
        if answer is None:
            return "unparseable_prediction"
        try:
            score = float(self.score(problem, answer))
        except Exception:  # a task may leave it to Python to say that "abc" is no number
            return "unparseable_prediction"
        return self.verdict_of(score)

    def verdict_of(self, score: float) -> Verdict:
        """Whether a score counts as right."""
        return "correct" if score >= self.right_from else "wrong"

    def grade_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[tuple[str | None, Verdict]]:
        """(extracted answer, grade) of whole responses to `problems`, in order; at once, where that is faster."""
        answers = [self.extract(text) for text in texts]
        return list(zip(answers, self.grade_answers(problems, answers), strict=True))

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """Grades of extracted answers, in order."""
        return [self.grade(problem, answer) for problem, answer in zip(problems, answers, strict=True)]

    def grade_golds(self, problems: Sequence[Problem]) -> list[Verdict]:
        """The grade of each problem's own gold, which must be right: no answer can be graded against any other."""
        return self.grade_answers(problems, [problem.gold for problem in problems])

    def canonical(self, answer: str) -> str:
        """Equal for answers that say the same, e.g. with equal values."""
        return self.same(answer) or answer

    def checks(self, problem: Problem, steps: Sequence[str]) -> list[StepChecks] | None:
        """What can be checked in each step by itself; None: there is no such thing."""
        return None

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """A readable answer, and, where it is right, no step on the way that breaks the rules.

        A wrong solution may hold wrong steps: where it went wrong is what a chain that goes back learns from.
        """
        verdict = self.grade(problem, self.extract(self.response(steps)))
        if verdict != "correct":
            return verdict == "wrong"
        return all(self.valid_many([(problem, list(steps[: n + 1])) for n in range(len(steps))]))

    def valid_many(self, paths: Sequence[tuple[Problem, Sequence[str]]]) -> list[bool]:
        """`valid` of many (problem, steps), in order."""
        return [self.valid(problem, steps) for problem, steps in paths]

    def abandoned(self, step: str) -> tuple[str, str]:
        """A terminal step as it reads when its attempt is given up: (the step, what the chain finds about it; "" if nothing).

        `tried_mark` takes the place of `answer_mark`, so that the chain gives one answer alone.
        """
        return step.replace(self.answer_mark.rstrip(), self.tried_mark.rstrip()), ""

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """Names the state that a chain returns to: the question and the steps that stand."""
        asked = self.ask(problem).strip("\n")
        if self.chat is not None:
            asked = inert(asked, self.chat.controls)  # as it stands in the prompt
        return self.step_end.join([asked, *steps]) + self.step_end

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """(prompt, sound): the LM is asked whether the solution is sound; an answer that begins with `sound` is a yes."""
        solution = self.step_end.join(steps)
        asked = f"{self.ask(problem).rstrip()}\n\n{solution}\n\nIs this solution right? Say yes or no."
        return (asked + "\n" if self.chat is None else self.chat.render(asked)), "yes"

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """A generated chain of thought as a directed graph."""
        return self.parse_many([problem], [text])[0]

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """`parse_chain` of many, in order; all attempts are graded at once."""
        drafts = [
            read_chain(self.ask(problem), text, self.phrases, self)
            for problem, text in zip(problems, texts, strict=True)
        ]
        pairs = list(zip(problems, drafts, strict=True))
        ended = [(p, d.answers[end]) for p, d in pairs for end in d.answers]
        right = iter(self.grade_answers([p for p, _ in ended], [answer for _, answer in ended]))
        sound = iter(self.sound_steps(pairs))
        return [
            draft.finish(
                sound=[next(sound) for _ in draft.texts],
                right={end: next(right) == "correct" for end in draft.answers},
            )
            for draft in drafts
        ]

    def sound_steps(self, drafts: Sequence[tuple[Problem, Draft]]) -> list[bool]:
        """Whether each step of each chain follows the rules, chain after chain."""
        return self.valid_many([(p, draft.path(n)) for p, draft in drafts for n in range(len(draft.texts))])

    # --- how steps are written, for `read_chain`

    def step_key(self, step: str) -> str:
        """Equal for a step and its restatement: given up or not, it is the same step."""
        return self.same(self.abandoned(step)[0])

    def ends(self, step: str) -> bool:
        """Does the step end an attempt, whatever follows? It gives an answer, or gives one up."""
        return self.attempt(step) is not None

    def attempt(self, step: str) -> str | None:
        """The answer that an attempt comes to which ends with this step, given or given up; None: none can be read."""
        given = self.extract(step)
        if given is not None or self.tried_mark.rstrip() not in step:
            return given
        return self.extract(step.replace(self.tried_mark.rstrip(), self.answer_mark.rstrip()))

    def named_step(self, sentence: str, steps: Sequence[str]) -> int | None:
        """None: returns are known by the steps that they write again."""
        return None

    def _behind(self, mark: str, text: str) -> str | None:
        """What follows the last `mark`, up to `answer_end`."""
        _, found, tail = text.rpartition(mark.rstrip())
        answer = (tail.partition(self.answer_end)[0] if self.answer_end else tail).strip() if found else ""
        return answer or None

    # --- problem sets and the base's corpus

    def problem_many(self, seeds: Sequence[tuple[str, int]]) -> list[Mapping[str, Any]]:
        """`problem` for each (seed, level), in order.

        Raises:
            TaskError: the task makes none.
        """
        return [self.problem(random.Random(seed), level) for seed, level in seeds]

    def make_sets(self, params: ProblemsParams, seed: int) -> tuple[dict[str, list[Problem]], int]:
        """All sets of `problems.source: generated`: eval first, so train and rl avoid them.

        Returns:
            Name (train, rl, eval_<name>) -> problems, and the draws that were dropped because the problem was taken already.

        Raises:
            TaskError: the task makes too few different problems, or none.
        """
        wanted = {f"eval_{name}": [spec.level] * spec.size for name, spec in params.eval.items()}
        for name in ("train", "rl"):
            levels, weights = [int(level) for level in params.levels], list(params.levels.values())
            wanted[name] = random.Random(f"levels/{seed}/{name}").choices(levels, weights, k=getattr(params, name))
        taken: set[str] = set()
        sets: dict[str, list[Problem]] = {}
        dropped = 0
        for name, levels in wanted.items():
            sets[name], lost = self._make_set(name, levels, seed, taken)
            dropped += lost
        tried = sets["train"][:GOLDS_TRIED]
        for problem, verdict in zip(tried, self.grade_golds(tried), strict=True):
            if verdict != "correct":
                raise TaskError(
                    f"{self.name}: score() does not call the problem's own gold right: {problem.question!r:.120}, gold "
                    f"{problem.gold!r:.80}: {verdict}; astro check {self.name} says more"
                )
        return sets, dropped

    def _make_set(self, name: str, levels: list[int], seed: int, taken: set[str]) -> tuple[list[Problem], int]:
        """Problems of a set, none of them in `taken` (which grows)."""
        made: dict[int, Problem] = {}
        missing, dropped = list(range(len(levels))), 0
        for attempt in range(MAX_TRIES):
            drawn = self.problem_many([(f"problems/{seed}/{name}/{n}/{attempt}", levels[n]) for n in missing])
            left = []
            for n, fields in zip(missing, drawn, strict=True):
                problem = self.made(f"{name}-{n:05d}", fields, levels[n])
                key = self.identity(problem)
                if key in taken:
                    left.append(n)
                    continue
                taken.add(key)
                made[n] = problem
            missing, dropped = left, dropped + len(left)
            if not missing:
                return [made[n] for n in range(len(levels))], dropped
        raise TaskError(
            f"problems: set {name!r} wants {len(levels)} problems, but {MAX_TRIES} draws in a row gave no new one of level "
            f"{levels[missing[0]]} for {len(missing)} of them; ask for fewer, or let the task make more different ones"
        )

    def made(self, identifier: str, fields: Mapping[str, Any], level: int) -> Problem:
        """The record of a problem that `problem` made.

        Raises:
            TaskError: it is none.
        """
        unknown = set(fields) - {"question", "gold", "data"} if isinstance(fields, Mapping) else set()
        texts = [fields.get(key) for key in ("question", "gold")] if isinstance(fields, Mapping) else [None]
        if unknown or not all(isinstance(text, str) and text.strip() for text in texts):
            raise TaskError(
                f'{self.name}: problem() must return {{"question": text, "gold": text}}, and "data" if need be; '
                f"got {fields!r:.200}"
            )
        return Problem(id=identifier, task=self.name, level=level, chance=None, **fields)

    def solutions(self, seeds: Sequence[str], problems: Sequence[Problem]) -> list[Sequence[str]]:
        """`solution` for each problem, in order.

        Raises:
            TaskError: the task writes none.
        """
        return [self.solution(random.Random(seed), p) for seed, p in zip(seeds, problems, strict=True)]

    def corpus(
        self, params: CorpusParams, world: Mapping[str, int], excluded: Sequence[Problem], seed: int
    ) -> Iterator[str]:
        """Endless solutions in one go, each with its question, for the base to learn from. No problem of `excluded` appears.

        Args:
            params: params.yaml's `base.corpus`; of it the levels and their shares.
            world: bounds of the numbers (`problems.number_max` and its like), for tasks of this project.

        Raises:
            TaskError: the task writes no solutions.
        """
        known, rng = {self.identity(problem) for problem in excluded}, random.Random(f"corpus/{seed}")
        levels, weights = [int(level) for level in params.levels], list(params.levels.values())
        for batch in itertools.count():
            seeds = [f"corpus/{seed}/{batch}/{n}" for n in range(CORPUS_BATCH)]
            drawn = self.problem_many(list(zip(seeds, rng.choices(levels, weights, k=len(seeds)), strict=True)))
            problems = [self.made("corpus", fields, 1) for fields in drawn]
            kept = [(s, p) for s, p in zip(seeds, problems, strict=True) if self.identity(p) not in known]
            if not kept:
                raise TaskError(f"base.corpus: {self.name} made {len(seeds)} problems, and each stands in an eval set")
            solved = self.solutions([s for s, _ in kept], [p for _, p in kept])
            yield from (self.prompt(p) + self.response(steps) for (_, p), steps in zip(kept, solved, strict=True))

    def corpus_of(self, problems: Sequence[Problem], seed: int) -> Iterator[str]:
        """As `corpus`, of given problems: each in turn, again and again, each time with another solution.

        Raises:
            TaskError: the task writes no solutions.
        """
        for turn in itertools.count():
            order = random.Random(f"corpus/{seed}/{turn}").sample(problems, len(problems))
            for at in range(0, len(order), CORPUS_BATCH):
                batch = order[at : at + CORPUS_BATCH]
                solved = self.solutions([f"corpus/{seed}/{turn}/{p.id}" for p in batch], batch)
                yield from (self.prompt(p) + self.response(steps) for p, steps in zip(batch, solved, strict=True))

    def vocabulary(self, world: Mapping[str, int], texts: Iterable[str]) -> list[str]:
        """The words of the embedded base's tokenizer, which are parted by spaces and line ends.

        Args:
            texts: the beginning of the corpus.
        """
        return sorted({word for text in texts for word in re.findall(r"\n|[^ \n]+", text)})


CORPUS_BATCH = 256
"""Problems of the base's corpus that are made at once."""
