"""The interface of a task. The stages use a kind of problem only through `Task`; a file of your own subclasses it."""

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from astro.process import UserError
from astro.special_tokens import inert
from astro.tasks.chain_reader import Draft, JumpWords, read_chain
from schemas.base_model import CorpusParams
from schemas.problems import ProblemsParams
from schemas.records import Chain, Extraction, Problem, StepChecks, Verdict
from schemas.run import Reading

if TYPE_CHECKING:
    from astro.tasks.chat import ChatTemplate

GOLDS_TRIED = 20
"""Number of generated problems whose golds are graded before a long stage starts."""

MAX_TRIES = 200
"""Consecutive draws without a new problem after which a generator counts as exhausted."""


class TaskError(UserError):
    """A task cannot do what was requested. The message says what and why."""


class Task:
    """Base class of a task: it defines how a problem is asked, how solutions are written and read, and how answers are graded.

    A file of your own holds one subclass. Only `score` is required. Problems come from the method `problem`, or from files
    (`problems.source: files`).

        from astro.tasks import Task

        class Sums(Task):
            def problem(self, random, level):
                numbers = [random.randint(1, 50) for _ in range(level)]
                return {"question": "add " + " ".join(map(str, numbers)), "gold": str(sum(numbers))}

            def score(self, problem, answer):
                return answer == problem.gold

    A response is a list of steps, one per line, and the last step gives the answer:

        7 + 5 = 12
        12 + 9 = 21
        Answer: 21

    The class runs in separate processes with limits on time and memory. The result of each method must depend only on its
    arguments.

    Attributes:
        options: `defaults` updated by `run.options` in params.yaml.
    """

    # --- attributes that a file of your own may set

    step_end: str = "\n"
    """Separator at the end of a step; not part of the step."""

    answer_mark: str = "Answer: "
    """Text that introduces the final answer."""

    answer_end: str = "\n"
    """Text that ends the final answer. The end of the response ends it as well."""

    tried_mark: str = "Tried: "
    """Text that replaces `answer_mark` when a chain gives up an attempt and goes back."""

    system: str = ""
    """System message for chat models; "": no system message."""

    right_from: float = 1.0
    """Lowest score that counts as correct."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Options that `run.options` in params.yaml may set, with their default values."""

    # --- methods that a file of your own may define

    def problem(self, random: random.Random, level: int) -> Mapping[str, Any]:
        """Create a new problem of a level (1, 2, ...) as {"question": str, "gold": str}; "data" (JSON) may hold more for
        `score`.

        All randomness must come from `random`. If the method is not defined, problems come from files.
        """
        raise NotImplementedError

    def score(self, problem: Problem, answer: str) -> float | bool:
        """Score an answer from 0 (wrong) to 1 (right); `right_from` is the threshold. An exception means: the answer is
        unreadable."""
        raise NotImplementedError

    def ask(self, problem: Problem) -> str:
        """The question as the model sees it: the prompt of a plain model (a line end is added), or the user message of a chat
        model."""
        return problem.question

    def solution(self, random: random.Random, problem: Problem) -> Sequence[str]:
        """Write the steps of one direct attempt, right or wrong, without going back. Used by `base.source: train` and
        `base.warmup`.

        All randomness must come from `random`. If the method is not defined, only a pretrained base without warm-up can be
        used.
        """
        raise NotImplementedError

    def extract(self, text: str) -> str | None:
        """The final answer of a whole response; None: it contains none."""
        return self._behind(self.answer_mark, text)

    def valid(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Whether the last of `steps` is legal in the state that the earlier steps reach. By default every step is legal."""
        return True

    def state_key(self, steps: Sequence[str]) -> str:
        """Key of the state that `steps` reach. The search merges sibling steps with equal keys. Default: the text of the last
        step."""
        return self.same(steps[-1]) or steps[-1]

    # --- attributes and methods that the stages use as well; only tasks of this project override them

    name: str = ""
    readings: tuple[Reading, ...] = ()
    """The supported places of an answer, if there are several."""
    makes_problems: bool = True
    """Whether `problem` is defined. If not, all problems come from files."""
    grades_inline: bool = False
    """Whether grading and parsing take only microseconds, so that a thread would not pay off."""

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
        """The stop strings of a step for the engine. They include `step_end`."""
        return (self.step_end,)

    def same(self, text: str) -> str:
        """Normalise case and white space, so that equal results mean equal content."""
        return " ".join(text.split()).lower()

    def identity(self, problem: Problem) -> str:
        """Key that is equal for two statements of the same problem, however they are worded."""
        return self.same(problem.question)

    def prompt(self, problem: Problem) -> str:
        """The text that a model continues. For a chat model it is a conversation that ends where the assistant begins to
        write."""
        if self.chat is None:
            return self.ask(problem).rstrip("\n") + "\n"
        system, said = self.messages(problem)
        return self.chat.render(said, system=system)

    def messages(self, problem: Problem) -> tuple[str | None, str]:
        """The messages for a chat model: (system message or None, user message)."""
        return self.system or None, self.ask(problem)

    def example(self, level: int) -> Problem:
        """A short problem for dry runs. level: one that the run uses, for tasks that generate it."""
        return Problem(id="example", task=self.name, question="?", gold="?", level=level, chance=None)

    def response(self, steps: Sequence[str], rest: str = "") -> str:
        """The continuation of the prompt: `steps`, followed by the raw text `rest`."""
        if not steps:
            return rest
        joined = self.step_end.join(steps)
        return joined if self.is_terminal(steps[-1]) and not rest else joined + self.step_end + rest

    def split(self, text: str) -> list[str]:
        """Split a whole response into its steps, in order. Blank steps are dropped."""
        return [step for step in text.split(self.step_end) if step.strip()]

    def is_terminal(self, step: str) -> bool:
        """Whether the step holds a final answer."""
        return self.extract(step) is not None

    def extraction(self, text: str) -> Extraction | None:
        """Which part of a whole response holds the final answer; None: the task has only one format."""
        return None

    def grade(self, problem: Problem, answer: str | None) -> Verdict:
        """Grade an extracted answer."""
        if answer is None:
            return "unparseable_prediction"
        try:
            score = float(self.score(problem, answer))
        except Exception:  # e.g. float("abc"): a task need not check the format itself
            return "unparseable_prediction"
        return self.verdict_of(score)

    def verdict_of(self, score: float) -> Verdict:
        """Turn a score into a verdict."""
        return "correct" if score >= self.right_from else "wrong"

    def grade_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[tuple[str | None, Verdict]]:
        """(extracted answer, verdict) of each whole response, in order. Graded as one batch where that is faster."""
        answers = [self.extract(text) for text in texts]
        return list(zip(answers, self.grade_answers(problems, answers), strict=True))

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """Grade extracted answers, in order."""
        return [self.grade(problem, answer) for problem, answer in zip(problems, answers, strict=True)]

    def grade_golds(self, problems: Sequence[Problem]) -> list[Verdict]:
        """Grade each problem's own gold. It must be correct, because every answer is graded against it."""
        return self.grade_answers(problems, [problem.gold for problem in problems])

    def canonical(self, answer: str) -> str:
        """Canonical form of an answer: equal for answers with the same meaning, e.g. the same value. Used for majority votes."""
        return self.same(answer) or answer

    def checks(self, problem: Problem, steps: Sequence[str]) -> list[StepChecks] | None:
        """Checks of each step by itself (such as its equalities); None: the task has no such checks."""
        return None

    def checked(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Whether a solution is sound: its answer is readable and, if correct, no step breaks the rules.

        A wrong solution may contain wrong steps, because a chain that goes back learns from the place of the error.
        """
        verdict = self.grade(problem, self.extract(self.response(steps)))
        if verdict != "correct":
            return verdict == "wrong"
        return all(self.valid_many([(problem, list(steps[: n + 1])) for n in range(len(steps))]))

    def valid_many(self, paths: Sequence[tuple[Problem, Sequence[str]]]) -> list[bool]:
        """`valid` for many (problem, steps), in order."""
        return [self.valid(problem, steps) for problem, steps in paths]

    def abandoned(self, step: str) -> tuple[str, str]:
        """Rewrite a terminal step whose attempt is given up. Returns (the step, the chain's finding about it or "").

        `tried_mark` replaces `answer_mark`, so that the chain gives only one final answer.
        """
        return step.replace(self.answer_mark.rstrip(), self.tried_mark.rstrip()), ""

    def restate(self, problem: Problem, steps: Sequence[str]) -> str:
        """Restate the state that a chain returns to: the question and the steps that remain valid."""
        asked = self.ask(problem).strip("\n")
        if self.chat is not None:
            asked = inert(asked, self.chat.controls)  # same spelling as in the prompt
        return self.step_end.join([asked, *steps]) + self.step_end

    def vote_prompt(self, problem: Problem, steps: Sequence[str]) -> tuple[str, str]:
        """(prompt, sound) for self-evaluation: the model is asked whether the solution is right. `sound` begins a positive
        reply."""
        solution = self.step_end.join(steps)
        asked = f"{self.ask(problem).rstrip()}\n\n{solution}\n\nIs this solution right? Say yes or no."
        return (asked + "\n" if self.chat is None else self.chat.render(asked)), "yes"

    def parse_chain(self, problem: Problem, text: str) -> Chain:
        """Parse a generated chain of thought into a directed graph."""
        return self.parse_many([problem], [text])[0]

    def parse_many(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Chain]:
        """`parse_chain` for many chains, in order. All attempts are graded in one batch."""
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
        """Whether each step of each chain is legal, chain after chain."""
        return self.valid_many([(p, draft.path(n)) for p, draft in drafts for n in range(len(draft.texts))])

    # --- format of steps, used by `read_chain`

    def step_key(self, step: str) -> str:
        """Key that is equal for a step and its restatement, whether its attempt was given up or not."""
        return self.same(self.abandoned(step)[0])

    def ends(self, step: str) -> bool:
        """Whether the step ends an attempt by itself, because it gives an answer or gives one up."""
        return self.attempt(step) is not None

    def attempt(self, step: str) -> str | None:
        """The answer of an attempt that ends with this step, whether it was given or given up; None: no answer can be read."""
        given = self.extract(step)
        if given is not None or self.tried_mark.rstrip() not in step:
            return given
        return self.extract(step.replace(self.tried_mark.rstrip(), self.answer_mark.rstrip()))

    def named_step(self, sentence: str, steps: Sequence[str]) -> int | None:
        """Always None: here a chain names the target of a return by writing its steps again."""
        return None

    def _behind(self, mark: str, text: str) -> str | None:
        """The text after the last `mark`, up to `answer_end`."""
        _, found, tail = text.rpartition(mark.rstrip())
        answer = (tail.partition(self.answer_end)[0] if self.answer_end else tail).strip() if found else ""
        return answer or None

    # --- problem sets and the base's corpus

    def problem_many(self, seeds: Sequence[tuple[str, int]]) -> list[Mapping[str, Any]]:
        """`problem` for each (seed, level), in order.

        Raises:
            TaskError: the task does not generate problems.
        """
        return [self.problem(random.Random(seed), level) for seed, level in seeds]

    def make_sets(self, params: ProblemsParams, seed: int) -> tuple[dict[str, list[Problem]], int]:
        """Generate all problem sets (`problems.source: generated`). Eval sets come first, so that train and rl can exclude them.

        Returns:
            Problems by set name (train, rl, eval_<name>), and the number of draws that were dropped as duplicates.

        Raises:
            TaskError: the task generates no problems, or too few different ones.
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
                    f"{self.name}: score() does not accept the problem's own gold: {problem.question!r:.120}, gold "
                    f"{problem.gold!r:.80}: {verdict}; `astro check {self.name}` shows details"
                )
        return sets, dropped

    def _make_set(self, name: str, levels: list[int], seed: int, taken: set[str]) -> tuple[list[Problem], int]:
        """Generate the problems of one set. None of them is in `taken`, which is extended."""
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
            f"problems: set {name!r} wants {len(levels)} problems, but {MAX_TRIES} draws in a row gave no new "
            f"problem of level {levels[missing[0]]} for {len(missing)} of them. Reduce the size of the set, or let "
            "the task make more different problems"
        )

    def made(self, identifier: str, fields: Mapping[str, Any], level: int) -> Problem:
        """Turn the fields that `problem` returned into a record.

        Raises:
            TaskError: a field is missing or invalid.
        """
        unknown = set(fields) - {"question", "gold", "data"} if isinstance(fields, Mapping) else set()
        texts = [fields.get(key) for key in ("question", "gold")] if isinstance(fields, Mapping) else [None]
        if unknown or not all(isinstance(text, str) and text.strip() for text in texts):
            raise TaskError(
                f'{self.name}: problem() must return {{"question": text, "gold": text}}, and optionally "data"; '
                f"got {fields!r:.200}"
            )
        return Problem(id=identifier, task=self.name, level=level, chance=None, **fields)

    def solutions(self, seeds: Sequence[str], problems: Sequence[Problem]) -> list[Sequence[str]]:
        """`solution` for each problem, in order.

        Raises:
            TaskError: the task does not write solutions.
        """
        return [self.solution(random.Random(seed), p) for seed, p in zip(seeds, problems, strict=True)]

    def corpus(
        self, params: CorpusParams, world: Mapping[str, int], excluded: Sequence[Problem], seed: int
    ) -> Iterator[str]:
        """Endless corpus for the base: questions with direct solutions. Problems of `excluded` are left out.

        Args:
            params: `base.corpus` of params.yaml; only the levels and their shares are used here.
            world: bounds of the numbers (`problems.number_max` and the like), for tasks of this project.

        Raises:
            TaskError: the task does not write solutions.
        """
        known, rng = {self.identity(problem) for problem in excluded}, random.Random(f"corpus/{seed}")
        levels, weights = [int(level) for level in params.levels], list(params.levels.values())
        for batch in itertools.count():
            seeds = [f"corpus/{seed}/{batch}/{n}" for n in range(CORPUS_BATCH)]
            drawn = self.problem_many(list(zip(seeds, rng.choices(levels, weights, k=len(seeds)), strict=True)))
            problems = [self.made("corpus", fields, 1) for fields in drawn]
            kept = [(s, p) for s, p in zip(seeds, problems, strict=True) if self.identity(p) not in known]
            if not kept:
                raise TaskError(
                    f"base.corpus: {self.name} made {len(seeds)} problems, and all of them are in an eval set"
                )
            solved = self.solutions([s for s, _ in kept], [p for _, p in kept])
            yield from (self.prompt(p) + self.response(steps) for (_, p), steps in zip(kept, solved, strict=True))

    def corpus_of(self, problems: Sequence[Problem], seed: int) -> Iterator[str]:
        """Endless corpus from given problems. They are used in turn, with a new solution each time.

        Raises:
            TaskError: the task does not write solutions.
        """
        for turn in itertools.count():
            order = random.Random(f"corpus/{seed}/{turn}").sample(problems, len(problems))
            for at in range(0, len(order), CORPUS_BATCH):
                batch = order[at : at + CORPUS_BATCH]
                solved = self.solutions([f"corpus/{seed}/{turn}/{p.id}" for p in batch], batch)
                yield from (self.prompt(p) + self.response(steps) for p, steps in zip(batch, solved, strict=True))

    def vocabulary(self, world: Mapping[str, int], texts: Iterable[str]) -> list[str]:
        """The words of the embedded base's tokenizer. Spaces and line ends separate words.

        Args:
            texts: the beginning of the corpus.
        """
        marks = (self.answer_mark, self.tried_mark)  # only chains that go back hold the second one
        return sorted({word for text in itertools.chain(texts, marks) for word in re.findall(r"\n|[^ \n]+", text)})


CORPUS_BATCH = 256
"""Number of corpus problems that are generated at once."""
