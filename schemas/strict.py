"""Base class of all contracts: unknown keys are refused, values are not converted, and objects are immutable."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of all params, records and metrics: `extra="forbid"`, frozen, strict types (an int is accepted for a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
