"""Read params.yaml as DVC does, validate it against the contracts, and report the place of every fault."""

import difflib
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from astro.process import UserError, home_root
from schemas.params import Params
from schemas.renamed import remedy

AFFECTS_RESULTS = False  # it reads and checks; DVC tracks the values

PARAMS_FILE = Path("params.yaml")

UNTRACKED = ("execution", "tracking")
"""Sections that no stage tracks, because no result depends on them."""

_MERGE = re.compile(r"^(<{7}|\|{7}|={7}|>{7})( .*)?$", re.MULTILINE)
"""Lines that git writes into a file with an unresolved merge conflict."""


def read_yaml(path: Path) -> CommentedMap:
    """Read a YAML file as mappings with line numbers.

    Raises:
        UserError: the file is missing, not text, has merge conflicts, or is not valid YAML or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not valid UTF-8; save the file as UTF-8") from None
    require_merged(text, path)
    try:
        content = YAML(typ="rt").load(text)
    except YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {error}") from None
    if not isinstance(content, CommentedMap):
        raise UserError(f"{path}: expected sections, got {type(content).__name__}")
    return content


def require_merged(text: str, path: Path) -> None:
    """Refuse a file with the marks of an unfinished merge.

    Raises:
        UserError: names the line of the first mark, and how to continue.
    """
    marks = list(_MERGE.finditer(text))
    if not any(mark[1] == "<" * 7 for mark in marks):
        return
    line = text.count("\n", 0, marks[0].start()) + 1
    remedy = (
        "do not merge it by hand: choose one side (git checkout --ours or --theirs dvc.lock), git add it, then run "
        "`dvc repro`"
        if path.name == "dvc.lock"
        else f"keep one side at each conflict marker, remove the markers, then run `git add {path}`"
    )
    raise UserError(f"{path}, line {line}: unfinished merge ({marks[0][0]}); {remedy}")


def plain(value: Any) -> Any:
    """Convert ruamel's mappings, lists and scalars to plain Python ones, with strings as keys."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def line_of(content: CommentedMap, location: tuple) -> int | None:
    """Line number, from 1, of the deepest key of `location` in the file."""
    line, here = None, content
    for part in location:
        if not isinstance(here, CommentedMap):
            break
        key = next((k for k in here if str(k) == str(part)), None)
        if key is None:
            break
        line = here.lc.key(key)[0] + 1
        here = here[key]
    return line


def faults_of(
    error: ValidationError, content: CommentedMap, path: Path, whole: str, contract: type[BaseModel] | None = None
) -> list[str]:
    """Every fault of an invalid file: file, line, field, what was expected, what was found.

    Args:
        whole: name of the file's content, for a fault of no single field.
        contract: contract of the file; an unknown key is then compared with the existing keys.
    """
    faults = []
    for fault in error.errors():
        field = ".".join(str(p) for p in fault["loc"]) or whole
        line = line_of(content, fault["loc"])
        where = f"{path}, line {line}" if line else str(path)
        shown = "" if fault["type"] == "missing" or isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown parameter" + (nearest(contract, fault["loc"]) if contract else "")
        faults.append(f"{where}: {field}: {message}{shown}{_spelling(fault['type'], fault['input'])}")
    return faults


def _spelling(kind: str, given: object) -> str:
    """The correct spelling of a value with the wrong type, if it is obvious (2.0, '2' and 'yes'); "" otherwise."""
    if kind.startswith("int") and isinstance(given, float) and given.is_integer():
        return f"; write {int(given)}"
    if kind.startswith(("int", "float")) and isinstance(given, str) and re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", given):
        return f"; write {given}, without quotes"
    if kind.startswith("bool"):
        return "; write true or false"
    return ""


# --- suggestions for misspelt names -----------------------------------------------------------------------------------


def nearest(contract: type[BaseModel], location: Sequence[object]) -> str:
    """A hint for an unknown key, such as "; the nearest is mcts.c_puct": the present name of a renamed parameter, else a similar
    key beside it, else the same key elsewhere, else a similar key elsewhere; "" if there is none.
    """
    if contract is Params and (renamed := remedy(location)):
        return renamed
    *above, key = (str(part) for part in location)
    beside, known = _fields(contract, above), list(_dotted(contract))
    leaves = {name.rpartition(".")[2] for name in known}
    if close := difflib.get_close_matches(key, beside, 1, 0.6 if key not in leaves else 0.8):
        return f"; the nearest is {'.'.join([*above, *close])}"
    alike = difflib.get_close_matches(key, leaves, 1, 0.8)
    found = sorted(name for name in known if name.rpartition(".")[2] in alike)
    closest = difflib.get_close_matches(".".join([*above, key]), found, 3, 0.0)
    return f"; the nearest is {' or '.join(closest)}" if closest else ""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The contracts that an annotation contains: `X`, `X | None`, `Annotated[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (dict, list):
        for part in get_args(annotation):
            yield from _models(part)


def _fields(contract: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The valid keys at a place of the file; [] if any key is valid."""
    here: list[Any] = [contract]
    for part in location:
        here = [below for kind in here for below in _below(kind, part)]
    return [name for kind in here for model in _models(kind) for name in model.model_fields]


def _below(annotation: Any, key: str) -> Iterator[Any]:
    """The possible types of a key's value, according to the annotation of its parent."""
    for model in _models(annotation):
        if key in model.model_fields:
            yield model.model_fields[key].annotation
    if get_origin(annotation) is dict:
        yield get_args(annotation)[1]


def _dotted(contract: type[BaseModel], at: str = "") -> Iterator[str]:
    """All parameters of a contract, in the notation of `-S`."""
    for name, field in contract.model_fields.items():
        below = list(_models(field.annotation))
        for model in below:
            yield from _dotted(model, f"{at}{name}.")
        if not below:
            yield f"{at}{name}"


# --- params.yaml -------------------------------------------------------------------------------------------------------


def validate(content: CommentedMap, path: Path) -> Params:
    """Validate a complete params file.

    Raises:
        UserError: every fault on its own line, see `faults_of`.
    """
    try:
        return Params.model_validate(plain(content))
    except ValidationError as error:
        raise UserError("\n       ".join(faults_of(error, content, path, "params", Params))) from None


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Load the params of this run.

    Raises:
        UserError: see `read_yaml` and `validate`. If an edit since the last commit caused the fault (`dvc exp run -S`
            makes such edits in the workspace), the message says how to undo it.
    """
    content = read_yaml(path)
    try:
        return validate(content, path)
    except UserError as error:
        raise UserError("\n       ".join([str(error), *way_back(content, path, str(error))])) from None


def way_back(content: CommentedMap, path: Path, said: str) -> Iterator[str]:
    """How to undo edits of the parameters that an error names: their former values, and git's command. Empty if git has the
    same values or does not know the file.

    DVC's copy for a queued experiment needs no such hint, because the workspace was not edited.
    """
    if path.is_absolute() or Path.cwd() != home_root():
        return
    try:
        shown = subprocess.run(["git", "show", f":./{path}"], capture_output=True, text=True, check=True)
        before = dict(_leaves(plain(YAML(typ="rt").load(shown.stdout))))
    except (OSError, subprocess.CalledProcessError, YAMLError, AttributeError):
        return  # there is no git, or its version of the file is no better
    now = dict(_leaves(plain(content)))
    edits = [key for key in before.keys() | now.keys() if before.get(key, ...) != now.get(key, ...)]
    fields = re.findall(rf"{re.escape(str(path))}(?:, line \d+)?: ([\w.]+): ", said)
    mine = [key for key in sorted(edits) if any(f"{key}.".startswith(f"{f}.") or f == "params" for f in fields)]
    if mine:
        was = ", ".join(f"{key} was {before[key]!r}" if key in before else f"{key} was missing" for key in mine)
        others = f" and undoes the other edits of the file ({len(edits) - len(mine)})" if len(edits) > len(mine) else ""
        yield f"it was edited ({was}); `git restore {path}` restores it{others}"


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not a mapping."""
    for key, below in value.items():
        if isinstance(below, dict) and below:
            yield from _leaves(below, f"{at}{key}.")
        else:
            yield f"{at}{key}", below
