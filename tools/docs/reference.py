"""Reference pages: every parameter of params.yaml from the schemas, and the help of every command."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import numpy as np
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from astro.__main__ import COMMANDS, usage
from astro.params import PARAMS_FILE, plain
from astro.profiles import committed
from astro.viz.markdown_table import table
from schemas.params import Params
from schemas.renamed import RENAMED

FOLDER = Path("docs/reference")
SOURCE = "<!-- Written by `python -m tools.docs`. Edit {}, not this page. -->"
WIDTH = 100
"""Width of the help texts, in columns."""

MISSING = object()


# --- parameters --------------------------------------------------------------------------------------------------------


def params_page() -> str:
    """The page with every parameter: type and bounds, default, meaning."""
    defaults = plain(YAML(typ="rt").load(committed(PARAMS_FILE)))
    parts = [
        "# Parameters",
        SOURCE.format("the schemas"),
        "`params.yaml` holds one section for each stage, and a few sections that stages share.\n"
        "This page lists every parameter with its type, its bounds, its default and its meaning.\n"
        "Names are written as `dvc exp run -S` takes them.\n"
        "A key in angle brackets stands for a name of your own.\n"
        "Each change is checked before a stage runs, and a fault names file, line and parameter.",
    ]
    for name, info in Params.model_fields.items():
        model = _model(info.annotation)
        assert model is not None, f"{name} is not a section"
        rows = list(
            _rows(f"{name}." if not _keyed(info.annotation) else f"{name}.<name>.", model, _default(defaults, name))
        )
        parts += [
            f"## {name}",
            _sentence(info.description or model.__doc__ or ""),
            table(["parameter", "type", "default", "meaning"], rows),
        ]
    parts += [
        "## Former names",
        "A file that still has a former name is refused, and the error names the present one.\n"
        "Kept results with former names are read as they are.",
        table(
            ["former name", "present name"],
            [
                [f"`{section}.{one.was}`", f"`{section}.{one.now}`"]
                for one in RENAMED
                for section in [one.section.replace("*", "<name>")]
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def described() -> dict[str, str | None]:
    """Parameter -> its one-line description; None: it has none."""
    return dict(_meanings("", Params))


def _meanings(at: str, model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    for name, info in model.model_fields.items():
        if inner := _model(info.annotation):
            yield from _meanings(f"{at}{name}.", inner)
        else:
            yield at + name, info.description


def _rows(at: str, model: type[BaseModel], default: Any) -> Iterator[list[str]]:
    for name, info in model.model_fields.items():
        inner, value = _model(info.annotation), _default(default, name, info)
        if inner is None:
            yield [f"`{at}{name}`", _type(info), _shown(value), _sentence(info.description or "")]
        elif _keyed(info.annotation):
            keys = f" default: {', '.join(f'`{key}`' for key in value)}" if isinstance(value, Mapping) and value else ""
            yield [
                f"`{at}{name}`",
                "mapping",
                keys.removeprefix(" default: ") or "none",
                _sentence(info.description or ""),
            ]
            yield from _rows(f"{at}{name}.<name>.", inner, MISSING)
        else:
            yield from _rows(f"{at}{name}.", inner, value)


def _default(values: Any, name: str, info: FieldInfo | None = None) -> Any:
    """The default from params.yaml, or else from the schema."""
    if isinstance(values, Mapping) and name in values:
        return values[name]
    if info is not None and not info.is_required():
        return info.get_default(call_default_factory=True)
    return MISSING


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, directly or as the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is dict:
        return _model(get_args(annotation)[1])
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _model(get_args(annotation)[0])
    return None


def _keyed(annotation: Any) -> bool:
    return get_origin(annotation) is dict


_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", NoneType: "null"}
_BOUNDS = {
    annotated_types.Ge: ("≥", "ge"),
    annotated_types.Gt: (">", "gt"),
    annotated_types.Le: ("≤", "le"),
    annotated_types.Lt: ("<", "lt"),
}


def _type(info: FieldInfo) -> str:
    return " ".join([_kind(info.annotation), *_bounds(info.metadata)])


def _kind(annotation: Any) -> str:
    """A type in words."""
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        inner = [bound for found in annotation.__metadata__ for bound in _bounds(getattr(found, "metadata", [found]))]
        return " ".join([_kind(arguments[0]), *inner])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value or chr(39) * 2}`" for value in arguments)
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_kind, arguments))
    if get_origin(annotation) is dict:
        return f"mapping to {_kind(arguments[1])}"
    if get_origin(annotation) is list:
        return f"list of {_kind(arguments[0])}"
    return _NAMES.get(annotation, "any")


def _bounds(metadata: list) -> list[str]:
    found = []
    for one in metadata:
        for kind, (sign, name) in _BOUNDS.items():
            if isinstance(one, kind):
                found.append(
                    f"{sign} {getattr(one, name):g}"
                    if getattr(one, name) < 1e6
                    else f"{sign} 2^{getattr(one, name).bit_length() - 1}"
                )
        if isinstance(one, annotated_types.MinLen):
            found.append(f"at least {one.min_length} long")
        if pattern := getattr(one, "pattern", None):
            found.append(f"like `{pattern}`")
    return found


def _shown(value: Any) -> str:
    if value is MISSING:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"`{key}: {inner}`" for key, inner in value.items()) or "none"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, float):  # never 7e-05, which YAML reads as text
        return f"`{np.format_float_positional(value, trim='0')}`"
    return f"`{value!r}`" if value == "" else f"`{value}`"


def _sentence(text: str) -> str:
    """The text as one line with Markdown characters escaped."""
    return re.sub(r"<(?=\w)", "&lt;", " ".join(text.split()))


# --- the command line --------------------------------------------------------------------------------------------------


def help_of(*command: str) -> str:
    """The output of a command with --help, in a terminal of WIDTH columns."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "PYTHON_COLORS": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "astro", *command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def cli_page() -> str:
    """The page with the help of `astro` and of each command."""
    parts = [
        "# Command line",
        SOURCE.format("the help texts in the code"),
        "Every command is also a module: `astro ask` and `python -m astro ask` are the same.\n"
        "The environment must be active: `. .venv/bin/activate`.",
        f"```text\n{usage().strip()}\n```",
    ]
    for name in COMMANDS:
        parts += [f"## astro {name}", f"```text\n{help_of(*name.split())}\n```"]
    return "\n\n".join(parts) + "\n"


def reference_pages() -> dict[Path, str]:
    """File -> content."""
    return {FOLDER / "params.md": params_page(), FOLDER / "cli.md": cli_page()}
