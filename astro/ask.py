"""Ask the trained models one problem and watch them answer.

astro ask "make 24 from 3 5 7 9"                             the last model of each arm
astro ask "make 24 from 3 5 7 9" --arms sft,direct           these models or arms
astro ask "make 24 from 3 5 7 9" --samples 3 --seed 7
astro ask "make 24 from 3 5 7 9" --tree --page answer.html   with a tree search, and as a page with pictures
astro ask "make 24 from 3 5 7 9" --model export/grpo         a model folder
astro ask "What is 2 + 2?" --gold 4                          mathematics: graded if there is a reference
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from astro.arms import BASE, all_models, load_arms
from astro.cloning.verbalize import load_phrases
from astro.execution.job_runner import LocalRunner, Meter
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_jsonl, write_text
from astro.inference.engine import EngineError, Request
from astro.params import load_params
from astro.process import UserError, plural, program, run_stage
from astro.seeds import node_seed
from astro.tasks import get_task
from astro.tasks.chat import chat_for
from astro.tasks.countdown.sets import make_problem
from astro.viz.ask_page import render
from astro.viz.labels import style
from astro.viz.terminal import ChainPrinter, Terminal, print_tree, verdict_line
from schemas.params import Params
from schemas.problems import ProblemsParams
from schemas.records import Completion, Problem, Tree

if TYPE_CHECKING:
    from astro.inference.hf_engine import HfEngine

MODELS = Path("models")
SET = "asked"
"""Name that replaces the eval set in the records of asked problems."""
COUNTDOWN = re.compile(
    r"\s*(?:make\s+)?(\d{1,9})\s+(?:from|with|of|using)\s+(\d{1,9}(?:[\s,]+(?:and\s+)?\d{1,9})+)\s*[.?!]?\s*", re.I
)

UNKNOWN = "?"
"""Reference of a problem that was typed without one."""


def main() -> None:
    """See the module's docstring."""
    given = arguments()
    params = load_params()
    problem = read_problem(given.question, given.gold, params)
    folders = chosen(given.arms, given.model)
    terminal = Terminal(sys.stdout)
    terminal.line(problem.question)
    for line in remarks(problem, params.problems) if problem.task == "countdown" else []:
        terminal.line(f"note: {line}", "soft")
    answers: list[Completion] = []
    for name, folder in folders.items():
        answers += ask(name, folder, problem, params, samples=given.samples, seed=given.seed, terminal=terminal)
    tree = None
    if given.tree:
        folder = folders.get(given.model or BASE, MODELS / BASE)
        terminal.line()
        terminal.line(f"tree search by {folder}, {plural(params.mcts.num_simulations, 'simulation')}")
        tree = searched(folder, problem, params, seed=given.seed)
        print_tree(terminal, tree)
        solved = sum(node.verdict == "correct" for node in tree.nodes)
        terminal.line(
            f"{plural(len(tree.nodes), 'node')}, {plural(tree.tokens, 'token')}, {plural(solved, 'solution')}",
            "right" if solved else "wrong",
        )
    if given.page:
        write_text(given.page, render(problem, answers, tree))
        terminal.line()
        terminal.line(f"page: {given.page}")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog=program("ask"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question", help='the problem, e.g. "make 24 from 3 5 7 9"')
    parser.add_argument("--arms", help="comma-separated arms or models (default: the last model of each arm)")
    parser.add_argument("--model", help="a model folder, instead of the arms")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="number of answers per model (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the answers (default: 1)")
    parser.add_argument("--gold", help="reference answer, for mathematics problems")
    parser.add_argument("--tree", action="store_true", help="also show a tree search by the base model")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the answers with their graphs as an HTML page")
    given = parser.parse_args()
    if given.samples < 1:
        raise UserError(f"--samples {given.samples}: expected 1 or more")
    if given.arms and given.model:
        raise UserError("--arms and --model cannot be combined")
    return given


def known_problem(text: str) -> Problem | None:
    """The problem of the run's sets with exactly this text, including its reference; None: there is none."""
    for path in sorted(Path("data/problems").glob("**/*.jsonl")):
        for problem in read_jsonl(path, Problem):
            if problem.question.strip() == text.strip():
                return problem.model_copy(update={"id": SET})
    return None


def read_problem(text: str, gold: str | None, params: Params) -> Problem:
    """Parse the problem that a user typed.

    Raises:
        UserError: it is not a problem of the run's task.
    """
    if params.run.task != "countdown":
        if not text.strip():
            raise UserError("the problem is empty")
        known = None if gold else known_problem(text)
        return known or Problem(id=SET, task=params.run.task, question=text, gold=gold or UNKNOWN, level=1, chance=None)
    match = COUNTDOWN.fullmatch(text)
    if not match:
        raise UserError(f'{text!r} is not a Countdown problem; write one like "make 24 from 3 5 7 9"')
    numbers = [int(n) for n in re.findall(r"\d+", match[2])]
    world, target = params.problems, int(match[1])
    for number in (target, *numbers):
        if not 1 <= number <= world.value_max:
            raise UserError(
                f"{number} is outside the range of numbers that the models were trained on: 1 to {world.value_max} "
                "(problems.value_max)"
            )
    if len(numbers) > 6:
        raise UserError(f"{len(numbers)} numbers are too many; give at most 6")
    return make_problem(SET, target, numbers, value_max=world.value_max)


def remarks(problem: Problem, world: ProblemsParams) -> Iterator[str]:
    """Remarks on a Countdown problem, such as numbers outside the trained range."""
    target, *numbers = (int(n) for n in re.findall(r"\d+", problem.question))
    if not problem.chance:
        yield f"it has no solution with whole intermediate results from 1 to {world.value_max}"
    levels = sorted(world.levels)
    if str(len(numbers)) not in levels:
        yield f"the models were trained on {' and '.join(levels)} numbers"
    if not world.target_min <= target <= world.target_max or max(numbers) > world.number_max:
        yield (
            f"the models were trained on numbers from 1 to {world.number_max} and targets from {world.target_min} to "
            f"{world.target_max}"
        )


def chosen(names: str | None, folder: str | None) -> dict[str, Path]:
    """Name -> folder of the selected models.

    Raises:
        UserError: a name is unknown, or a model does not exist.
    """
    if folder:
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"--model {folder}: not a model folder (it has no config.json)")
        return {folder: Path(folder)}
    arms = load_arms()
    there = {name: MODELS / name for name in all_models() if (MODELS / name / "config.json").is_file()}
    if not any(name != BASE for name in there):
        raise UserError(
            "no model has been trained yet; run `make run` (20 minutes) or `make demo` (about 4 minutes) first"
        )
    found = []
    for name in names.split(",") if names else arms:
        name = name.strip()
        if name in arms:
            last = [stage + arms[name].suffix for stage in ("grpo", "sft") if stage + arms[name].suffix in there]
            if not last:
                raise UserError(f"--arms {name}: no model of this arm has been trained yet; run `dvc repro`")
            found.append(last[0])
        elif name in there:
            found.append(name)
        else:
            raise UserError(f"--arms {name}: no such arm or model; available: {', '.join([*arms, *there])}")
    return {name: there[name] for name in found}


def ask(
    name: str, folder: Path, problem: Problem, params: Params, *, samples: int, seed: int, terminal: Terminal
) -> list[Completion]:
    """Let one model answer, and print its text while it is generated."""
    phrases = load_phrases(Path(params.linearize.phrase_file))
    task = get_task(params.run.spec, phrases, chat_for(params.run.prompt, folder), params.run.answers)
    prompt, answers = task.prompt(problem), []
    printer: ChainPrinter | None = None

    def watch(text: str) -> None:
        if printer is not None and text.endswith("\n"):
            printer.show(text, task.parse_chain(problem, text), last=False)

    engine = opened(folder, params, watch=watch)
    if unknown := engine.unknown(prompt):
        raise UserError(f"{folder}: the model has no token for {unknown!r}; it was made for another task")
    for number in range(samples):
        terminal.line()
        title = style(name).label
        terminal.line(f"{title}, answer {number + 1} of {samples}" if samples > 1 else title)
        printer = ChainPrinter(
            terminal, doubts=phrases.reflection, returns=[*phrases.return_step, *phrases.return_root]
        )
        engine.submit(
            Request(
                prompt=prompt,
                n=1,
                max_tokens=params.eval.max_tokens,
                temperature=params.eval.temperature,
                stop=(),
                seed=node_seed(seed, problem.question, [SET, str(number)], "rollout"),
                logprobs=False,
            )
        )
        ((_, (sample,)),) = engine.poll()
        answer, verdict = task.grade_many([problem], [sample.text])[0]
        if problem.gold == UNKNOWN:
            verdict = "unparseable_gold" if answer else "unparseable_prediction"
        completion = Completion(
            model=name,
            set=SET,
            problem_id=problem.id,
            sample=number,
            text=sample.text,
            tokens=sample.tokens,
            finished=sample.finished,
            answer=answer,
            verdict=verdict,
            chain=task.parse_chain(problem, sample.text),
        )
        printer.show(sample.text, completion.chain, last=True)
        terminal.line(*verdict_line(completion))
        answers.append(completion)
    engine.close()
    return answers


def searched(folder: Path, problem: Problem, params: Params, *, seed: int) -> Tree:
    """Search the problem with the model in `folder`, and return the tree."""
    run, chat = params.run, chat_for(params.run.prompt, folder)
    jobs = SearchJobs(params.mcts, params.run.spec, seed, chat, check_steps=True, answers=run.answers)
    runner = LocalRunner(lambda: opened(folder, params))
    try:
        return next(tree for _, tree in runner.run(jobs, [problem], total=1, in_flight=1, meter=Meter()))
    finally:
        runner.close()


def opened(folder: Path, params: Params, *, watch: Callable[[str], None] | None = None) -> "HfEngine":
    """Load a model in transformers. vLLM would take longer to start than a single answer takes."""
    from astro.inference.hf_engine import HfEngine

    settings = params.engine.hf
    length = params.engine.max_model_len
    try:
        return HfEngine(folder, batch_size=settings.batch_size, dtype=settings.dtype, max_model_len=length, watch=watch)
    except EngineError as error:
        raise UserError(str(error)) from None


def command() -> None:
    """Entry point of the command."""
    run_stage(main)


if __name__ == "__main__":
    command()
