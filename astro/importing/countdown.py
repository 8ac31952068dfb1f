"""Countdown, from files to problem sets."""

from pathlib import Path

from astro.domains.countdown.sets import ProblemRow, import_set, problem_key
from astro.importing.imported import Imported
from astro.importing.sources import notes_on, place_of
from astro.runtime import enumerate_jsonl
from schemas.problems import Dropped, ProblemsParams, Reason


def import_countdown(params: ProblemsParams) -> Imported:
    """All sets of Countdown problems, from files of `{"id", "numbers", "target"}` lines.

    Raises:
        UserError: see `astro.domains.countdown.sets.import_set`.
    """
    files = {}
    for name, spec in params.files.items():
        files[name] = str(place_of(spec.path, params.folder) or spec.path)
        for note in notes_on(name, spec, params.folder):
            print(f"[problems] note: {note}", flush=True)
    sets = import_set(files, value_max=params.value_max)
    found = Imported(sets=sets)
    holders: dict[tuple[int, ...], tuple[str, bool]] = {}  # problem -> its place, and whether that is an eval set
    for name in sets:
        kept = {problem.id for problem in sets[name]}
        for line, row in enumerate_jsonl(Path(files[name]), ProblemRow):
            key = problem_key(row.target, row.numbers)
            if row.id in kept:
                holders.setdefault(key, (f"{name}:{row.id}", name.startswith("eval_")))
                continue
            place, held_out = holders[key]
            reason: Reason = "exact" if held_out else "repeated"
            where = f"{files[name]}, line {line}"
            found.dropped.append(Dropped(id=row.id, set=name, reason=reason, hits=place, where=where, detail=""))
    return found
