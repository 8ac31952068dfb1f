"""linearize stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class SelfEvalParams(Strict):
    """The LM votes on each candidate solution (Appendix A.1)."""

    votes: int = Field(ge=1, description="N")
    min_share: float = Field(ge=0, le=1, description="votes for 'sound' that a solution needs")


class LinearizeParams(Strict):
    """Trees -> chains of thought (paper sections 2.3 and 2.4)."""

    reflection: bool = Field(description="False: direct solutions from the same trees, as many of them")
    phrases: bool = Field(description="False: wrong branches kept, reflection text removed")
    phrase_file: str = Field(description="texts of reflection and return")
    max_backtracks: int = Field(ge=0, description="k': at most so many wrong terminals per chain")
    direct_share: float = Field(ge=0, le=1, description="share of chains without a wrong branch")
    traces_per_tree: int = Field(ge=1)
    jump: Literal["common_ancestor", "root", "random_ancestor"] = Field(description="where a chain goes back to")
    back_from: Literal["terminal", "dead_end"] = Field(
        description="when a wrong branch is given up: at its end (the paper), or at its first step from which the tree "
        "knows no way to a correct end"
    )
    order: Literal["random", "depth_first"] = Field(
        description="of the wrong branches: any, or subtree by subtree, so that a chain never comes back to a step it has left"
    )
    checked: bool = Field(
        description="right and wrong solutions only whose every step is legal and whose own check is true"
    )
    filter: Literal["none", "value", "self_eval"] = Field(description="which correct terminals are good enough")
    min_value: float = Field(ge=0, le=1, description="filter value: lowest Q on the path of the correct terminal")
    self_eval: SelfEvalParams
    writer: Literal["template", "lm"]

    @model_validator(mode="after")
    def _mix(self) -> "LinearizeParams":
        if self.reflection and self.max_backtracks == 0 and self.direct_share < 1:
            raise ValueError(
                "max_backtracks 0 leaves only direct solutions: set direct_share to 1 or reflection to false"
            )
        if self.writer == "lm":
            raise ValueError("writer lm (an instruct model rewrites, few-shot) is not built yet: use template")
        return self


class LinearizeMetrics(Strict):
    """metrics/linearize.json"""

    traces: int = Field(ge=0)
    direct: int = Field(ge=0)
    search: int = Field(ge=0)
    trees_used: int = Field(ge=0)
    trees_unsolved: int = Field(ge=0, description="no correct terminal")
    trees_filtered: int = Field(ge=0, description="correct terminals, but none passed the filter")
    backtracks: float = Field(ge=0, description="mean per search trace")
    characters: float = Field(ge=0, description="mean length of a completion")
    longest: int = Field(ge=0, description="characters")
