"""The arms of arms.yaml and their models: the base, and one model per arm after SFT and after RL."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from astro.params import faults_of, plain, read_yaml
from astro.process import UserError
from schemas.arms import Arm, ArmTable
from schemas.metrics import CONTRACTS
from schemas.params import Params

AFFECTS_RESULTS = False  # the stages name the file that it reads as a dependency

ARMS_FILE = Path("arms.yaml")
BASE = "base"
RAW = "base_raw"
"""Name of a pretrained base before its warm-up (base.warmup). Other runs have no such model."""

TRAINING: tuple[Literal["sft", "grpo"], ...] = ("sft", "grpo")
"""The training stages of each arm, in order."""

STAGE_NAMES = {"sft": "SFT", "grpo": "RL"}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model of an arm."""

    name: str  # name of its files: models/<name>
    stage: Literal["sft", "grpo"]
    arm: str
    label: str
    colour: str
    marker: str
    baseline: str  # name of the model that it is compared with; "": it is a baseline itself
    description: str


def load_arms() -> dict[str, Arm]:
    """Read arms.yaml in the current folder: name -> arm.

    Raises:
        UserError: the file is missing or broken; every fault with file, line and field.
    """
    return _load((Path.cwd() / ARMS_FILE).resolve(), ARMS_FILE)


@cache
def _load(path: Path, shown: Path) -> dict[str, Arm]:
    if not path.is_file():
        raise UserError(f"{shown}: no such file")
    content = read_yaml(path)
    try:
        return ArmTable.model_validate(plain(content)).table
    except ValidationError as error:
        raise UserError("\n       ".join(faults_of(error, content, shown, "arms", ArmTable))) from None


def require_arms(params: Params) -> None:
    """Check that every arm of arms.yaml has an entry in params.yaml, and no other name has one.

    Raises:
        UserError: names the arm and the file.
    """
    table = load_arms()
    if missing := [name for name in table if name not in params.arms]:
        raise UserError(
            f"params.yaml: arms: no entry for {missing[0]!r} of {ARMS_FILE}; add `{missing[0]}: {{sft: {{}}, grpo: {{}}}}`"
        )
    if unknown := [name for name in params.arms if name not in table]:
        raise UserError(f"params.yaml: arms.{unknown[0]}: no such arm in {ARMS_FILE}; available: {', '.join(table)}")


def arm_of(name: str) -> Arm:
    """The arm of that name.

    Raises:
        UserError: there is no such arm; lists the existing ones.
    """
    table = load_arms()
    if name not in table:
        raise UserError(f"unknown arm {name!r}; {ARMS_FILE} has: {', '.join(table)}")
    return table[name]


def models() -> dict[str, TrainedModel]:
    """Name -> trained model, for all arms, those after SFT first. The base is not included."""
    return {model.name: model for stage in TRAINING for model in _of_stage(stage)}


def _of_stage(stage: Literal["sft", "grpo"]) -> Iterator[TrainedModel]:
    table = load_arms()
    for name, arm in table.items():
        place = TRAINING.index(stage)
        yield TrainedModel(
            name=stage + arm.suffix,
            stage=stage,
            arm=name,
            label=f"{arm.label}-{STAGE_NAMES[stage]}",
            colour=arm.colours[place],
            marker=arm.markers[place],
            baseline=stage + table[arm.baseline].suffix if arm.baseline else "",
            description=arm.description,
        )


def by_arm() -> list[list[str]]:
    """The names of each arm's models, after SFT and after RL."""
    return [[stage + arm.suffix for stage in TRAINING] for arm in load_arms().values()]


def all_models() -> list[str]:
    """Names of all models in pipeline order: the base first (preceded by `RAW` if there is one)."""
    return [RAW, BASE, *models()]


def rl_models() -> list[str]:
    """Names of the models after RL."""
    return [model.name for model in models().values() if model.stage == "grpo"]


def baselines() -> dict[str, str]:
    """Model -> the model that it is compared with, for arms that have a baseline."""
    return {model.name: model.baseline for model in models().values() if model.baseline}


def contracts() -> dict[str, type[BaseModel]]:
    """Name of metrics/<name>.json -> its contract, in the order of the pipeline."""
    found: dict[str, type[BaseModel]] = {}
    for stage, contract in CONTRACTS.items():
        names = [model.name for model in models().values() if model.stage == stage] if stage in TRAINING else [stage]
        found |= dict.fromkeys(names, contract)
    return found
