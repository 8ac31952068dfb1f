"""Read params.yaml as DVC reads it, check it against the contracts, and say where a fault stands."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from astro.runtime import UserError
from schemas.params import Params

AFFECTS_RESULTS = False  # it reads and checks; the values are tracked by DVC

PARAMS_FILE = Path("params.yaml")


def read_yaml(path: Path) -> CommentedMap:
    """A YAML file as mappings that know their lines.

    Raises:
        UserError: missing, no valid YAML, or no mapping.
    """
    try:
        content = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except YAMLError as error:
        raise UserError(f"{path}: no valid YAML: {error}") from None
    if not isinstance(content, CommentedMap):
        raise UserError(f"{path}: expected sections, got {type(content).__name__}")
    return content


def plain(value: Any) -> Any:
    """ruamel's mappings, lists and scalars as plain Python ones, keys as strings."""
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
    """1-based line of the deepest key of `location` that the file holds."""
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


def faults_of(error: ValidationError, content: CommentedMap, path: Path, whole: str) -> list[str]:
    """Every fault of a file that does not validate: file, line, field, what was expected, what came.

    Args:
        whole: the name of the file's content, for a fault of no single field.
    """
    faults = []
    for fault in error.errors():
        field = ".".join(str(p) for p in fault["loc"]) or whole
        line = line_of(content, fault["loc"])
        where = f"{path}, line {line}" if line else str(path)
        shown = "" if fault["type"] == "missing" or isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown parameter"
        faults.append(f"{where}: {field}: {message}{shown}")
    return faults


def validate(content: CommentedMap, path: Path) -> Params:
    """Check a whole params file.

    Raises:
        UserError: every fault on a line of its own, see `faults_of`.
    """
    try:
        return Params.model_validate(plain(content))
    except ValidationError as error:
        raise UserError("\n       ".join(faults_of(error, content, path, "params"))) from None


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The params of this run.

    Raises:
        UserError: see `read_yaml` and `validate`.
    """
    return validate(read_yaml(path), path)
