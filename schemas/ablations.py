"""ablations.yaml, and reports/ablations.json that comes of it."""

from pydantic import Field, model_validator

from schemas.base import Strict
from schemas.evaluate import Estimate

BASELINE = "default"
"""The ablation that changes nothing; all others are compared with it. That of a profile may, e.g. leave RL out."""


def twice(values: list) -> list:
    """What a list holds more than once, in order."""
    return sorted({v for v in values if values.count(v) > 1})


class Ablation(Strict):
    """One change of the parameters, and what it is to tell."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="begins the experiment's name: <name>-s<seed>")
    question: str = Field(min_length=1, description="what the comparison with the default answers")
    set: list[str] = Field(description="key=value, as `dvc exp run -S` takes it; empty: the default")


class Ablations(Strict):
    """ablations.yaml. Whether the keys exist and the values are allowed is checked against params.yaml."""

    seeds: list[int] = Field(min_length=1, description="run.seed of the runs of each ablation")
    profile: str = Field(default="", description='laid over params.yaml for all runs; "": params.yaml as it is')
    ablations: list[Ablation] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> "Ablations":
        if again := twice([a.name for a in self.ablations]):
            raise ValueError(f"names come twice: {', '.join(again)}")
        if again := twice(self.seeds):
            raise ValueError(f"seeds come twice: {', '.join(map(str, again))}")
        default = [a.set for a in self.ablations if a.name == BASELINE]
        if not default or (default != [[]] and not self.profile):
            raise ValueError(
                f"one ablation must be named {BASELINE!r} and set nothing: the others are compared with it"
            )
        return self


class AblationRun(Strict):
    """One ablation with one seed."""

    seed: int
    experiment: str = Field(description="DVC's name of it")
    commit: str | None = Field(
        description="of the experiment, or the one that a kept run was made on; None: not run yet"
    )
    command: str = Field(description="what runs it")


class SeedDifference(Strict):
    """Mean difference within one seed."""

    seed: int
    difference: float = Field(ge=-1, le=1)


class AblationFigure(Strict):
    """pass@1 of one model on one eval set under one ablation, against the same model of the default."""

    set: str
    model: str = Field(description="of an arm, after SFT or RL")
    pass_at_1: float | None = Field(description="mean over seeds and problems, 0..1; None: no run yet")
    seeds: list[int] = Field(description="seeds in pass_at_1")
    difference: Estimate | None = Field(
        description="to the default, paired on (seed, problem); n counts these pairs; None: no seed in both, or default"
    )
    by_seed: list[SeedDifference] = Field(description="one for each seed that both have")


class ArmsFigure(Strict):
    """pass@1 of an arm whose chains search, minus its baseline's, within one ablation."""

    set: str
    model: str = Field(description="of an arm that has a baseline")
    difference: Estimate = Field(description="paired on (seed, problem); n counts these pairs")
    by_seed: list[SeedDifference]


class AblationRow(Strict):
    """All of one ablation."""

    name: str
    question: str
    set: list[str]
    runs: list[AblationRun]
    figures: list[AblationFigure]
    arms: list[ArmsFigure] = Field(description="of the sets and arms that a run has measured")


class AblationReport(Strict):
    """reports/ablations.json"""

    commit: str = Field(description="the present one; experiments stand on it, kept runs on their own (`runs`)")
    seeds: list[int] = Field(description="seeds asked for")
    rows: list[AblationRow]
