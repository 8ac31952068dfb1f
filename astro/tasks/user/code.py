"""Worker side of a task from outside this project (a user's file, or reasoning-gym). It runs only in workers with limits.

Arguments and results are JSON text. Whatever the code does, its worker answers or dies, and the stage continues.
"""

import difflib
import hashlib
import importlib.util
import json
import math
import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from astro.tasks.base import Task
from schemas.records import Problem

HOME = "astro.tasks.user.code:"
GYM_HOME = "astro.tasks.user.gym:"
"""Prefix of the functions that workers run for reasoning-gym. The fork server imports this module."""

MAY_DEFINE = ("problem", "score", "ask", "solution", "extract", "valid", "state_key")
MAY_SET = ("step_end", "answer_mark", "answer_end", "tried_mark", "system", "right_from", "defaults")
GYM = "gym:"


class Refused(Exception):
    """The task cannot be used. The message says why."""


def describe(source: str, options: str) -> dict[str, Any]:
    """Attributes and methods that a task defines: {"sets": {...}, "defines": [...], "digest": ...}, or {"error": reason}."""
    try:
        task = _opened(source, options)
        return {
            "sets": {name: getattr(task, name) for name in MAY_SET},
            "options": task.options,
            "defines": [name for name in MAY_DEFINE if getattr(type(task), name) is not getattr(Task, name)],
            "digest": digest(source),
            "doc": (type(task).__doc__ or "").strip().partition("\n")[0],
        }
    except MemoryError:
        raise
    except BaseException as error:
        return {"error": _told(error, source)}


def call(source: str, options: str, known: str, method: str, arguments: str) -> dict[str, Any]:
    """Call a method with arguments from a JSON list. Returns {"value": ...} or {"error": reason}.

    Args:
        known: digest of the file when the stage began. A different digest means that the file was edited since.
    """
    if digest(source) != known:
        return {"error": f"{source} was edited while the stage ran; run the stage again", "refused": True}
    try:
        return {"value": _CALLS[method](_opened(source, options), *json.loads(arguments))}
    except MemoryError:
        raise
    except BaseException as error:
        return {"error": _told(error, source), "refused": isinstance(error, Refused)}


def home_of(source: str) -> str:
    """The module whose functions run a task, as a prefix of their names."""
    return GYM_HOME if source.startswith(GYM) else HOME


def digest(source: str) -> str:
    """Hash of a task's file; "": the task has no file."""
    return "" if source.startswith(GYM) else hashlib.sha256(Path(source).read_bytes()).hexdigest()


@cache
def _opened(source: str, options: str) -> Task:
    """Load the task, once per worker."""
    os.register_at_fork(after_in_child=lambda: os._exit(1))  # a forked copy of this worker must not answer for it
    kind = _gym(source) if source.startswith(GYM) else _loaded(source)
    task = kind(options=json.loads(options))
    task.name = source
    _check(task, kind)
    return task


def _gym(source: str) -> Callable[..., Task]:
    try:
        from astro.tasks.user.gym import open_gym
    except ImportError as error:
        raise Refused(f"{source}: {error}; run `make gym` to install reasoning-gym") from None
    return lambda *, options: open_gym(source.removeprefix(GYM), options)


def _loaded(source: str) -> type[Task]:
    """The one subclass of Task in a file."""
    path = Path(source)
    sys.path.insert(0, str(path.resolve().parent))  # the file may import its neighbours
    spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Refused(f"{source}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and others look up their module here
    spec.loader.exec_module(module)
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Task) and kind.__module__ == module.__name__
    ]
    kinds = [kind for kind in kinds if not any(other is not kind and issubclass(other, kind) for other in kinds)]
    if len(kinds) != 1:
        found = f"{len(kinds)}: {', '.join(kind.__name__ for kind in kinds)}; keep one" if kinds else "none"
        raise Refused(f"{source}: expected one class that subclasses astro.tasks.Task, found {found}")
    return kinds[0]


def _check(task: Task, kind: object) -> None:
    """Check that the class defines what it must, and nothing that would be ignored."""
    own = type(task)
    if own.score is Task.score:
        raise Refused(f"{task.name}: class {own.__name__} has no score(self, problem, answer)")
    if isinstance(kind, type):
        known = {*MAY_DEFINE, *MAY_SET}
        outside = [n for n in vars(Task) if n not in known and not n.startswith("_")]
        bad = [n for n in [*outside, "__init__"] if any(n in vars(c) for c in own.__mro__[: own.__mro__.index(Task)])]
        if bad:
            raise Refused(
                f"{task.name}: class {own.__name__} overrides {', '.join(sorted(bad))}, which a task may not "
                f"override; it may define {', '.join(MAY_DEFINE)} and set {', '.join(MAY_SET)}"
            )
        for name in [n for c in own.__mro__[: own.__mro__.index(Task)] for n in vars(c) if not n.startswith("_")]:
            close = [] if hasattr(Task, name) else difflib.get_close_matches(name, [*MAY_DEFINE, *MAY_SET], 1, 0.8)
            if close and close[0] not in vars(own):
                raise Refused(f"{task.name}: class {own.__name__} has {name}; did you mean {close[0]}?")
    unknown = sorted(set(task.options) - set(task.defaults))
    if unknown:
        offered = ", ".join(sorted(task.defaults)) or "none"
        raise Refused(f"run.options.{unknown[0]}: {task.name} has no such option; it has: {offered}")
    for name in ("step_end", "answer_mark", "answer_end", "tried_mark", "system"):
        if not isinstance(getattr(task, name), str):
            raise Refused(f"{task.name}: {name} must be text, not {getattr(task, name)!r}")
    for name in ("step_end", "answer_mark", "tried_mark"):
        if not getattr(task, name) or (name != "step_end" and not getattr(task, name).strip()):
            raise Refused(f"{task.name}: {name} is empty")
    if task.answer_mark.strip() in task.tried_mark or task.tried_mark.strip() in task.answer_mark:
        raise Refused(
            f"{task.name}: answer_mark {task.answer_mark!r} and tried_mark {task.tried_mark!r} contain each other"
        )


# --- the methods, from JSON to JSON ------------------------------------------------------------------------------------


def _problem(task: Task, seed: str, level: int) -> dict[str, Any]:
    made = task.problem(random.Random(seed), level)
    if not isinstance(made, Mapping):
        raise TypeError(f"problem() must return a mapping, not {made!r:.100}")
    json.dumps(made)
    return dict(made)


def _score(task: Task, problem: dict, answer: str) -> float:
    given = task.score(Problem(**problem), answer)
    if given is None or isinstance(given, (str, bytes)):
        raise TypeError(f"score() must return a number or a truth value, not {given!r:.100}")
    score = float(given)
    if not math.isfinite(score):
        raise ValueError(f"score() must return a finite number, not {score}")
    return score


def _text(value: object, method: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{method}() must return text, not {value!r:.100}")
    return value


def _solution(task: Task, seed: str, problem: dict) -> list[str]:
    return [_text(step, "solution") for step in task.solution(random.Random(seed), Problem(**problem))]


def _extract(task: Task, text: str) -> str | None:
    found = task.extract(text)
    return found if found is None else _text(found, "extract")


def _valid(task: Task, problem: dict, steps: Sequence[str]) -> bool:
    return bool(task.valid(Problem(**problem), list(steps)))


_CALLS: Mapping[str, Callable[..., Any]] = {
    "problem": _problem,
    "score": _score,
    "ask": lambda task, problem: _text(task.ask(Problem(**problem)), "ask"),
    "solution": _solution,
    "extract": _extract,
    "valid": _valid,
    "state_key": lambda task, steps: _text(task.state_key(steps), "state_key"),
}


def _told(error: BaseException, source: str) -> str:
    """Format an exception as one line, with the line of the task's file that raised it."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).name == Path(source).name:
        return f"{source}, line {error.lineno}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == Path(source).absolute()]
    where = f", line {lines[-1]}" if lines else ""
    if isinstance(error, NotImplementedError) and not lines:
        return f"{source}: it is not defined"
    said = " ".join(str(error).split())[:300]
    return f"{source}{where}: {type(error).__name__}{f': {said}' if said else ''}"
