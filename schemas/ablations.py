"""Contracts of ablations.yaml and of its result, reports/ablations.json."""

from pydantic import Field, model_validator

from schemas.evaluate import Estimate
from schemas.strict import Strict

BASELINE = "default"
"""The ablation that changes nothing and with which all others are compared. It may change what a profile sets, e.g. leave out
RL."""


def twice(values: list) -> list:
    """Values that occur more than once in a list, in order."""
    return sorted({v for v in values if values.count(v) > 1})


class Ablation(Strict):
    """One change of the parameters, and the question that it answers."""

    name: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description=("beginning of the experiment's name: <name>-s<seed>")
    )
    question: str = Field(min_length=1, description="the question that the comparison with the default answers")
    set: list[str] = Field(description="key=value, in the syntax of `dvc exp run -S`; empty: the default")


class Ablations(Strict):
    """The content of ablations.yaml. Keys and values are checked against params.yaml elsewhere."""

    seeds: list[int] = Field(min_length=1, description="values of run.seed; each ablation runs once per seed")
    profile: str = Field(
        default="", description=('profile applied to params.yaml for all runs; "": params.yaml unchanged')
    )
    ablations: list[Ablation] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> "Ablations":
        if again := twice([a.name for a in self.ablations]):
            raise ValueError(f"names occur twice: {', '.join(again)}")
        if again := twice(self.seeds):
            raise ValueError(f"seeds occur twice: {', '.join(map(str, again))}")
        default = [a.set for a in self.ablations if a.name == BASELINE]
        if not default or (default != [[]] and not self.profile):
            raise ValueError(
                f"one ablation must be named {BASELINE!r} and set nothing, because the others are compared with it"
            )
        return self


class AblationRun(Strict):
    """One ablation with one seed."""

    seed: int
    experiment: str = Field(description="name of the DVC experiment")
    commit: str | None = Field(description="commit of the experiment, or of a kept run; None: not run yet")
    command: str = Field(description="the command that runs it")


class SeedDifference(Strict):
    """Mean difference within one seed."""

    seed: int
    difference: float = Field(ge=-1, le=1)


class AblationFigure(Strict):
    """pass@1 of one model on one eval set under one ablation, against the same model of the default."""

    set: str
    model: str = Field(description="model of an arm, after SFT or RL")
    pass_at_1: float | None = Field(description="mean over seeds and problems, 0..1; None: no run yet")
    seeds: list[int] = Field(description="number of seeds in pass_at_1")
    difference: Estimate | None = Field(
        description=(
            "difference to the default, paired on (seed, problem); n is the number of pairs; None: no common seed, or"
            " the default itself"
        )
    )
    by_seed: list[SeedDifference] = Field(description="one entry per seed that both have")


class ArmsFigure(Strict):
    """pass@1 of an arm minus that of its baseline, within one ablation."""

    set: str
    model: str = Field(description="model of an arm that has a baseline")
    difference: Estimate = Field(description="paired on (seed, problem); n is the number of pairs")
    by_seed: list[SeedDifference]


class AblationRow(Strict):
    """All figures of one ablation."""

    name: str
    question: str
    set: list[str]
    runs: list[AblationRun]
    figures: list[AblationFigure]
    arms: list[ArmsFigure] = Field(description="one entry per measured set and arm")


class AblationReport(Strict):
    """reports/ablations.json"""

    commit: str = Field(description="the present commit; experiments belong to it, kept runs to their own (`runs`)")
    seeds: list[int] = Field(description="requested seeds")
    rows: list[AblationRow]
