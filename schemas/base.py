"""What every contract shares: unknown keys are refused, nothing is coerced, nothing is mutated."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of all params, records and metrics: `extra="forbid"`, frozen, strict types (an int is accepted for a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
