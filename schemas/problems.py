"""problems stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class EvalSet(Strict):
    """One generated eval set."""

    numbers: int = Field(ge=2, le=6, description="how many numbers per problem")
    size: int = Field(ge=1)


class ProblemsParams(Strict):
    """Where problems come from."""

    source: Literal["generated", "jsonl"]
    train: int = Field(ge=1, description="generated: problems for mcts")
    rl: int = Field(ge=1, description="generated: problems for grpo")
    levels: dict[str, float] = Field(description="generated: numbers per problem -> share, for train and rl")
    eval: dict[str, EvalSet] = Field(min_length=1, description="generated: name -> eval set")
    number_max: int = Field(ge=2, le=99, description="operands are drawn from 1..number_max")
    target_min: int = Field(ge=1)
    target_max: int = Field(ge=1)
    value_max: int = Field(ge=2, le=999, description="largest intermediate result of a legal path")
    files: dict[str, str] = Field(description="jsonl: train, rl and eval_<name> -> path")

    @model_validator(mode="after")
    def _consistent(self) -> "ProblemsParams":
        if self.target_min > self.target_max:
            raise ValueError(f"target_min {self.target_min} is above target_max {self.target_max}")
        if self.target_max > self.value_max:
            raise ValueError(f"target_max {self.target_max} is above value_max {self.value_max}")
        if self.number_max > self.value_max:
            raise ValueError(f"number_max {self.number_max} is above value_max {self.value_max}")
        bad = [k for k in self.levels if not (k.isdigit() and 2 <= int(k) <= 6)]
        if bad:
            raise ValueError(f"levels: keys are 2..6 numbers per problem, not {bad}")
        if any(v < 0 for v in self.levels.values()) or abs(sum(self.levels.values()) - 1) > 1e-6:
            raise ValueError(f"levels: shares must be >= 0 and add up to 1, not {dict(self.levels)}")
        bad = [name for name in self.eval if not name.replace("_", "").isalnum()]
        if bad:
            raise ValueError(f"eval: names are letters, digits and _, not {bad}")
        if self.source == "jsonl":
            missing = {"train", "rl"} - set(self.files)
            if missing or not any(name.startswith("eval_") for name in self.files):
                raise ValueError("files: source jsonl needs train, rl and at least one eval_<name>")
        return self


class SetMetrics(Strict):
    """One problem set."""

    size: int = Field(ge=1)
    chance: float | None = Field(description="mean exact share of random legal paths that succeed; None: unknown")


class ProblemsMetrics(Strict):
    """metrics/problems.json"""

    sets: dict[str, SetMetrics]
    dropped: int = Field(
        ge=0, description="train and rl problems dropped because they also stand in an eval set or twice"
    )
