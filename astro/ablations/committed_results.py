"""Results of runs as small committed files. DVC's experiments themselves stay on the machine that made them.

A kept run counts as done wherever a run with the same params is wanted, whatever its commit; the table names the
commit. So the runs of a table may come from several machines and days. `python -m astro.ablations keep` writes them. A
parameter that was added to the project later is assumed to have had its default value. `execution` is not stored,
because no result depends on it. If the default itself has changed since, the kept runs are compared with each other.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from astro.ablations.experiment_results import Result
from astro.ablations.spec import SEED_KEY, Planned, committed_params, overlaid
from astro.files import digest, read_json, write_text
from astro.params import UNTRACKED
from astro.process import UserError, plural
from schemas.ablations import BASELINE
from schemas.params import laid_over
from schemas.renamed import with_present_names
from schemas.strict import Strict


class KeptQuestions(Strict):
    """The questions of all runs of a seed, stored once for all runs with the same questions."""

    questions: dict[str, dict[str, str]] = Field(description="eval set -> problem id -> question")


class KeptRun(Strict):
    """The stored result of one run."""

    commit: str = Field(description="the commit of the run")
    params: dict = Field(description="params.yaml without `execution`")
    questions: str = Field(description="file of its KeptQuestions in the same folder")
    samples: int = Field(ge=1, description="completions per problem")
    right: dict[str, dict[str, list[int]]] = Field(
        description="eval set -> model -> number of right completions per problem, in the order of the questions"
    )


def keep(planned: Planned, result: Result, *, commit: str, folder: Path | None = None) -> Path:
    """Write the run to a file. The same run gives the same bytes."""
    samples = planned.params["eval"]["samples"]
    questions = {name: dict(sorted(asked.items())) for name, asked in sorted(result.questions.items())}
    asked = f"questions-{digest(questions)}.json"
    right: dict[str, dict[str, list[int]]] = {}
    for (set_name, model), scores in sorted(result.scores.items()):
        right.setdefault(set_name, {})[model] = [round(scores[i] * samples) for i in questions[set_name]]
    folder = folder or planned.folder
    path = folder / f"{planned.name}.json"
    run = KeptRun(commit=commit, params=_science(planned.params), questions=asked, samples=samples, right=right)
    for target, record in ((folder / asked, KeptQuestions(questions=questions)), (path, run)):
        write_text(target, record.model_dump_json() + "\n")  # one line, because it holds thousands of short numbers
    return path


def read_run(path: Path) -> KeptRun:
    """Read a kept run. Renamed params get their present names.

    Raises:
        UserError: the file does not hold a run; names file and field.
    """
    run = read_json(path, KeptRun)
    return run.model_copy(update={"params": with_present_names(run.params)})


def kept(planned: Planned, folder: Path | None = None) -> KeptRun | None:
    """The kept run of this name, if its params are the requested ones.

    Raises:
        UserError: the file does not hold a run; names file and field.
    """
    path = (folder or planned.folder) / f"{planned.name}.json"
    if not path.is_file():
        return None
    run = read_run(path)
    return run if _fits(run.params, _science(planned.params), committed_params()) else None


def _science(params: dict) -> dict:
    """The params that affect results."""
    return {name: section for name, section in params.items() if name not in UNTRACKED}


def _fits(had: dict, wanted: dict, defaults: dict) -> bool:
    """Whether two sets of params are equivalent. The module's docstring explains the treatment of new keys."""
    if had.keys() - wanted.keys():
        return False
    for key, value in wanted.items():
        default = defaults.get(key)
        if key not in had:
            if value != default:
                return False
        elif isinstance(value, dict) and isinstance(had[key], dict):
            if not _fits(had[key], value, default or {}):
                return False
        elif had[key] != value:
            return False
    return True


def result_of(run: KeptRun, folder: Path) -> Result:
    """The result of a kept run.

    Raises:
        UserError: the file of its questions is missing or does not match.
    """
    questions = read_json(folder / run.questions, KeptQuestions).questions
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for set_name, models in run.right.items():
        asked = questions.get(set_name, {})
        for model, counts in models.items():
            if len(counts) != len(asked):
                raise UserError(
                    f"{folder / run.questions}: set {set_name}: {plural(len(asked), 'question')}, but {model} has "
                    f"{plural(len(counts), 'figure')}"
                )
            scores[set_name, model] = {i: n / run.samples for i, n in zip(asked, counts, strict=True)}
    return Result(questions, scores)


def all_kept(planned: Mapping[str, Planned], folder: Path | None = None) -> dict[str, KeptRun]:
    """Name -> kept run, for all that exist."""
    found = {name: kept(one, folder) for name, one in planned.items()}
    return {name: run for name, run in found.items() if run}


def of_an_earlier_default(planned: Mapping[str, Planned], folder: Path | None = None) -> dict[str, KeptRun]:
    """Name -> kept run, for runs that differ from the kept default of their seed only by the settings of their ablation.

    The default may have changed since they were made. They still answer their question, because they include the default of
    that time.
    """
    found, today = {}, committed_params()
    for name, one in planned.items():
        paths = [(folder or one.folder) / f"{ablation}-s{one.seed}.json" for ablation in (BASELINE, one.ablation.name)]
        if not all(path.is_file() for path in paths):
            continue
        default, run = map(read_run, paths)
        then = laid_over(today, default.params)  # parameters added since then have their default
        try:
            wanted = overlaid(then, one.ablation.set, str(paths[0]))
        except UserError:  # a parameter that neither has
            continue
        if _fits(run.params, wanted, then):
            found[name] = run
    return found


def changed(had: dict, now: dict, prefix: str = "") -> list[str]:
    """The differences between the params of a kept default and the present ones ("key was 1, is 2"), without the seed and new
    keys."""
    lines = []
    for key, value in had.items():
        if f"{prefix}{key}" == SEED_KEY:
            continue
        if isinstance(value, dict) and isinstance(now.get(key), dict):
            lines += changed(value, now[key], f"{prefix}{key}.")
        elif key not in now:
            lines.append(f"{prefix}{key} was {value}, no longer exists")
        elif now[key] != value:
            lines.append(f"{prefix}{key} was {value}, is now {now[key]}")
    return lines
