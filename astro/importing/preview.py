"""`astro check problems`: show what an import would read, before a run. It runs the real import but writes nothing."""

import argparse
import contextlib
import io
import re
import textwrap
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from astro.importing import import_sets
from astro.importing.imported import Imported, source_of
from astro.importing.presets import MAPS, filters_of, map_of
from astro.importing.sources import place_of
from astro.params import faults_of, load_params, plain
from astro.process import UserError, plural
from astro.tasks import get_task
from schemas.problems import Preset, SourceSpec

AFFECTS_RESULTS = False  # it only shows what the stage would import

ROWS, PROBLEMS, WIDTH = 3, 2, 300
"""Amounts shown per set: rows per reason, problems, and characters of a question."""

EXAMPLES = """examples:
  astro check problems                                     # the sets of params.yaml
  astro check problems --set eval_own
  astro check problems sources/svamp.json --preset svamp   # a file that params.yaml does not name yet
  astro check problems own.csv --entry '{fields: {answer: result}, where: {checked: "Yes"}}'

Exit code 1: a set has no problem, or a strict set has a bad row."""


def main() -> int:
    """Print the report. Returns 1 if a set has a fault."""
    parser = argparse.ArgumentParser(
        prog="astro check problems",
        description="Preview the problem sets: counts, first problems, and what is left out and why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", help="a file, a folder or a hub id (default: the sets of params.yaml)")
    parser.add_argument("--set", metavar="NAME", help="show only this set")
    presets = get_args(Preset)
    parser.add_argument("--preset", choices=presets, metavar="NAME", help="preset of the file: " + ", ".join(presets))
    parser.add_argument("--entry", metavar="YAML", help="further keys for the file, as in problems.files")
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="task of the file: countdown, math or my_task.py (default: that of the preset, or run.task)",
    )
    given = parser.parse_args()
    params = load_params()
    task = given.task or params.run.task
    problems = params.problems
    if given.file:
        place = place_of(given.file, problems.folder)
        spec = spec_of(given.file, place, given.preset, given.entry)
        folder = str(place.parent) if place else problems.folder
        problems = problems.model_copy(update={"files": {"eval_file": spec}, "folder": folder})
        if not given.task and spec.preset != "plain":
            task = "math" if spec.preset in MAPS else "countdown"
    elif given.preset or given.entry or given.task:
        raise UserError("--preset, --entry and --task need a file: astro check problems FILE --preset NAME")
    elif problems.source == "generated":
        raise UserError(
            "problems.source is generated, so there are no files to read; name a file: astro check problems FILE"
        )
    if given.set and given.set not in problems.files:
        raise UserError(f"there is no set {given.set!r}; available: {', '.join(problems.files)}")
    shown = [given.set] if given.set else list(problems.files)
    found = Imported(errors={})
    with contextlib.redirect_stdout(io.StringIO()):
        import_sets(problems, get_task(params.run.spec if task == params.run.task else task), found)
    for name in shown:
        print("\n".join(report(name, problems.files[name], task, found)), end="\n\n")
    bad = [name for name in shown if name in (found.errors or {})]
    print(f"faults in {len(bad)} of {plural(len(shown), 'set')}: {', '.join(bad)}" if bad else "no fault")
    return int(bool(bad))


def spec_of(file: str, place: Path | None, preset: str | None, entry: str | None) -> SourceSpec:
    """The entry of problems.files for a file. place: its place in params.yaml.

    Raises:
        UserError: the entry is invalid; says why.
    """
    is_file = place.is_file() if place else bool(re.search(r"\.\w+$", file))
    content = CommentedMap()
    try:
        content = YAML(typ="rt").load(entry or "{}")
        content["path" if is_file else "dataset"] = place.name if place else file
        if preset:
            content["preset"] = preset
        return SourceSpec.model_validate(plain(content))
    except ValidationError as error:
        raise UserError("\n       ".join(faults_of(error, content, Path("--entry"), "entry", SourceSpec))) from None
    except (YAMLError, TypeError, ValueError) as error:
        raise UserError(
            f"--entry: expected YAML, such as '{{limit: 100}}': {' '.join(str(error).split())[:200]}"
        ) from None


def report(name: str, spec: SourceSpec, task: str, found: Imported) -> list[str]:
    """The report on one set, line by line."""
    kept = found.sets.get(name, [])
    lines = [f"{name}: {source_of(spec)}: {plural(found.rows[name], 'row')}, {len(kept)} kept"]
    if spec.preset in MAPS and task != "countdown":
        lines += [f"  {line}" for line in columns_of(spec)]
    for reason in dict.fromkeys(reason for of, reason in found.counts if of == name):
        lines.append(f"  left out, {reason}: {found.counts[name, reason]}")
        rows = [row for row in found.dropped if (row.set, row.reason) == (name, reason)]
        for row in rows[:ROWS]:
            lines.append(f"    {row.where}: {' '.join(filter(None, (row.hits and f'as {row.hits}', row.detail)))}")
    lines += [f"  note: {text}" for of, text in found.notes if of == name]
    for problem in kept[:PROBLEMS]:
        lines.append(f"  {problem.id}, level {problem.level}, gold {problem.gold!r}:")
        cut = "..." if len(problem.question) > WIDTH else ""
        lines.append(textwrap.indent(problem.question[:WIDTH] + cut, "    "))
    if error := (found.errors or {}).get(name):
        lines.append(f"  error: {error}")
    return lines


def columns_of(spec: SourceSpec) -> list[str]:
    """The columns of a problem's parts, and the filters on rows."""
    columns = map_of(spec.preset, spec.fields)
    answers = " or ".join(f"{column!r}" + (f" ({mode})" if mode != "plain" else "") for column, mode in columns.answers)
    lines = [
        f"map {columns.name}: question {' or '.join(map(repr, columns.questions))}, answer {answers}, "
        f"level {' or '.join(map(repr, columns.levels))}, id {' or '.join(map(repr, columns.ids)) or 'the row'}"
    ]
    lines += [f"only rows with {one.column}: {' or '.join(map(str, one.values))}" for one in filters_of(spec)]
    return lines + [f"removed from the question: {text!r}" for text in columns.trim]
