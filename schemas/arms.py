"""arms.yaml: what is trained side by side from the same trees. `arms` of params.yaml: what an arm's training does otherwise."""

from typing import Any, Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class Arm(Strict):
    """One arm: its training set, its name and its look."""

    suffix: str = Field(pattern=r"^(_[a-z0-9_]+)?$", description="of its files: models/sft<suffix>")
    label: str = Field(min_length=1, description="its models are called <label>-SFT and <label>-RL")
    traces: Literal["train", "direct"] = Field(description="its training set, data/traces/<traces>.jsonl")
    baseline: str = Field(default="", description='name of the arm that it is compared with; "": it is a baseline')
    colours: list[str] = Field(
        default=["#9a5fc0", "#7d3fa8"], min_length=2, max_length=2, description="in plots: after SFT, after RL"
    )
    markers: list[str] = Field(default=["P", "X"], min_length=2, max_length=2, description="in plots: matplotlib's")
    description: str = Field(min_length=1, description="what it is fine-tuned on, for the model card")


class ArmTable(Strict):
    """arms.yaml"""

    table: dict[str, Arm] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "ArmTable":
        suffixes = [arm.suffix for arm in self.table.values()]
        if len(set(suffixes)) < len(suffixes):
            raise ValueError(f"two arms have the same suffix: {suffixes}")
        for name, arm in self.table.items():
            if arm.baseline and (arm.baseline == name or arm.baseline not in self.table):
                raise ValueError(
                    f"{name}.baseline: no other arm is called {arm.baseline!r}; there are: {', '.join(self.table)}"
                )
            if arm.baseline and self.table[arm.baseline].baseline:
                raise ValueError(f"{name}.baseline: {arm.baseline} is compared with an arm itself; name a baseline")
        return self


class ArmParams(Strict):
    """What the training of one arm does otherwise: parameters of `sft` and `grpo` and their values."""

    sft: dict[str, Any] = Field(description="laid over `sft`")
    grpo: dict[str, Any] = Field(description="laid over `grpo`")
