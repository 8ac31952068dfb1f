"""Read ablations.yaml and check it completely before anything runs: its form, its keys, and the params of each ablation."""

import copy
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from astro.files import explain
from astro.params import PARAMS_FILE, nearest, plain, read_yaml
from astro.process import UserError
from astro.profiles import committed, find, merged
from schemas.ablations import Ablation, Ablations
from schemas.params import Params

SEED_KEY = "run.seed"

KEPT = Path("results")
"""Folder of the kept results of a file beside params.yaml, by profile. Those of a file in another folder lie beside it."""


@dataclass(frozen=True)
class Planned:
    """One run: an ablation with one seed."""

    ablation: Ablation
    seed: int
    params: dict
    """The complete params.yaml of the run as plain values."""

    profile: str = ""
    """The profile applied to params.yaml."""

    folder: Path = KEPT / "runs"
    """Folder of its kept result."""

    @property
    def name(self) -> str:
        """Name of the DVC experiment."""
        return f"{self.ablation.name}-s{self.seed}"

    @property
    def arguments(self) -> list[str]:
        """Arguments of `dvc`."""
        settings = [*self.ablation.set, f"{SEED_KEY}={self.seed}"]
        return ["exp", "run", "--name", self.name, *(part for s in settings for part in ("-S", s))]

    @property
    def command(self) -> str:
        """The command for the run, as typed in a checkout of the commit."""
        return shlex.join(["dvc", *self.arguments])


def load(path: Path) -> tuple[Ablations, CommentedMap]:
    """Read the file: validated by its contract, and as YAML with line numbers.

    Raises:
        UserError: the file is missing, not YAML or invalid; each fault names file, line and field.
    """
    content = read_yaml(path)
    try:
        return Ablations.model_validate(plain(content)), content
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = "unknown key"
            shown = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
            field = ".".join(map(str, fault["loc"])) or "file"
            faults.append(f"{_where(path, content, fault['loc'])}: {field}: {message}{shown}")
        raise UserError("\n       ".join(faults)) from None


def plan(path: Path, *, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Planned]:
    """The runs, seed by seed in the order of the file, so that stages shared by ablations run only once, early.

    All ablations are checked against params.yaml in the workspace, including those that `only` leaves out. The params
    of a run are those of the last commit with its settings.

    Args:
        only: names to include; empty: all.
        seeds: seeds that replace those of the file.

    Raises:
        UserError: see `load`; a setting that params.yaml does not know or that no stage accepts; an unknown name; a
            seed out of bounds.
    """
    file, content = load(path)
    if unknown := sorted(set(only) - {a.name for a in file.ablations}):
        known = ", ".join(a.name for a in file.ablations)
        raise UserError(f"{path}: unknown ablation {', '.join(unknown)}; available: {known}")
    chosen = list(dict.fromkeys(seeds or file.seeds))
    at_commit = committed_params(file.profile)
    here = at_commit if file.profile else plain(read_yaml(PARAMS_FILE))
    params = {}
    for number, ablation in enumerate(file.ablations):
        where = f"{_where(path, content, ('ablations', number))}: ablation {ablation.name}"
        for seed in chosen:
            settings = [*ablation.set, f"{SEED_KEY}={seed}"]
            checked = check(overlaid(here, settings, where), where)
            try:
                params[ablation.name, seed] = overlaid(at_commit, settings, where)
            except UserError:  # a parameter that is not committed yet, so no run can use it
                params[ablation.name, seed] = checked
    wanted = [(a, s) for s in chosen for a in file.ablations if not only or a.name in only]
    folder = KEPT / (file.profile or "runs") if path.resolve().parent == Path.cwd() else path.parent
    return [Planned(a, s, params[a.name, s], file.profile, folder) for a, s in wanted]


def committed_params(profile: str = "") -> dict:
    """params.yaml of the last commit (or of the workspace, without a commit) with a profile applied, as plain values."""
    text = committed(PARAMS_FILE)
    return plain(YAML(typ="rt").load(merged(find(profile), text) if profile else text))


def overlaid(base: dict, settings: Iterable[str], where: str) -> dict:
    """A copy of `base` with the settings applied. `where` begins each message.

    Raises:
        UserError: a setting is not key=value, or its key is unknown, names a section or occurs twice.
    """
    result, seen = copy.deepcopy(base), set()
    for setting in settings:
        key, value, adds = parse(setting, where)
        if key in seen:
            what = "is set by the runner, from `seeds`" if key == SEED_KEY else "is set twice"
            raise UserError(f"{where}: set {setting!r}: {key} {what}")
        seen.add(key)
        *sections, leaf = key.split(".")
        here: Any = result
        for section in sections:
            if not isinstance(here, dict):
                break
            here = here.setdefault(section, {}) if adds else here.get(section)
        known = isinstance(here, dict) and leaf in here
        if known and adds:
            raise UserError(f"{where}: set {setting!r}: {key} has a value already; leave out the +")
        if not isinstance(here, dict) or not (known or adds):
            may_add = key.startswith("arms.") and not adds
            hint = f"; add it by +{key}" if may_add else nearest(Params, key.split("."))
            raise UserError(f"{where}: set {setting!r}: {PARAMS_FILE} has no parameter {key!r}{hint}")
        if known and isinstance(here[leaf], dict):
            raise UserError(f"{where}: set {setting!r}: {key} is a section; set its parameters individually")
        here[leaf] = value
    return result


def check(params: dict, where: str) -> dict:
    """`params`, validated.

    Raises:
        UserError: they are invalid; each fault names its field.
    """
    try:
        Params.model_validate(params)
    except ValidationError as error:
        raise UserError(f"{where}: the resulting parameters are invalid: {explain(error)}") from None
    return params


def parse(setting: str, where: str) -> tuple[str, object, bool]:
    """Key and value of `key=value`, and whether a `+` adds the key, as only an arm has keys to add.

    Parsed like DVC's -S, because `1e-3` must mean the same to both.

    Raises:
        UserError: it is not a plain key=value (also: `+key=` of another section, `~key`, a sweep over several values).
    """
    from dvc.utils.hydra import to_hydra_overrides  # slow to import
    from hydra.errors import OverrideParseException

    try:
        [override] = to_hydra_overrides([setting])
    except OverrideParseException as error:
        raise UserError(f"{where}: set {setting!r}: not a key=value setting: {str(error).splitlines()[0]}") from None
    key, adds = override.key_or_group, override.type.name == "ADD"
    fits = override.type.name == "CHANGE" or (adds and key.startswith("arms."))
    if not fits or override.is_sweep_override() or override.package:
        raise UserError(f"{where}: set {setting!r}: expected exactly one key=value")
    return key, override.value(), adds


def _where(path: Path, content: CommentedMap, location: tuple) -> str:
    """`file, line n` of the deepest key or list item of `location` in the file."""
    line, here = None, content
    for part in location:
        try:
            mark = here.lc.item(part) if isinstance(part, int) else here.lc.key(part)
            here = here[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
        line = mark[0] + 1
    return f"{path}, line {line}" if line else str(path)
