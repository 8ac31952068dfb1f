"""Contracts of arms.yaml (the arms that are trained from the same trees) and of `arms` in params.yaml (settings of one arm)."""

from typing import Any, Literal

from pydantic import Field, model_validator

from schemas.strict import Strict


class Arm(Strict):
    """One arm: its training set, its names and its look in plots."""

    suffix: str = Field(pattern=r"^(_[a-z0-9_]+)?$", description="suffix of its files: models/sft<suffix>")
    label: str = Field(min_length=1, description="its models are called <label>-SFT and <label>-RL")
    traces: Literal["train", "direct"] = Field(description="training set, data/traces/<traces>.jsonl")
    baseline: str = Field(
        default="", description=('name of the arm that it is compared with; "": it is a baseline itself')
    )
    colours: list[str] = Field(
        default=["#9a5fc0", "#7d3fa8"], min_length=2, max_length=2, description="colours in plots: after SFT, after RL"
    )
    markers: list[str] = Field(
        default=["P", "X"], min_length=2, max_length=2, description=("matplotlib markers in plots: after SFT, after RL")
    )
    description: str = Field(min_length=1, description="description of its training data, for the model card")


class ArmTable(Strict):
    """The content of arms.yaml."""

    table: dict[str, Arm] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "ArmTable":
        suffixes = [arm.suffix for arm in self.table.values()]
        if len(set(suffixes)) < len(suffixes):
            raise ValueError(f"two arms have the same suffix: {suffixes}")
        for name, arm in self.table.items():
            if arm.baseline and (arm.baseline == name or arm.baseline not in self.table):
                raise ValueError(
                    f"{name}.baseline: no other arm is called {arm.baseline!r}; available: {', '.join(self.table)}"
                )
            if arm.baseline and self.table[arm.baseline].baseline:
                raise ValueError(
                    f"{name}.baseline: {arm.baseline} is itself compared with another arm; name an arm "
                    "that is a baseline"
                )
        return self


class ArmParams(Strict):
    """Values of `sft` and `grpo` that differ for one arm."""

    sft: dict[str, Any] = Field(description="changes to `sft`")
    grpo: dict[str, Any] = Field(description="changes to `grpo`")
