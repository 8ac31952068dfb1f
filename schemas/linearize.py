"""linearize stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class SelfEvalParams(Strict):
    """The LM votes on each candidate solution (Appendix A.1)."""

    votes: int = Field(ge=1, description="N")
    min_share: float = Field(ge=0, le=1, description="votes for 'sound' that a solution needs")
    max_tokens: int = Field(
        ge=1, description="longest vote; an instruct model may say 'Yes, ...': its first word counts"
    )


class RewriteParams(Strict):
    """`writer: lm`: the model rewrites each chain segment by segment (paper section 2.4)."""

    shots: int = Field(ge=0, description="few-shot examples in each prompt, at most as many as the file has")
    temperature: float = Field(ge=0, description="of the rewrites")
    max_tokens: int = Field(ge=1, description="longest rewrite of one segment")
    retries: int = Field(ge=0, description="times that a segment is asked for again when its rewrite fails a check")
    on_failure: Literal["drop", "template"] = Field(
        description="when the retries are used up: drop the chain, or take the template's text for the segment"
    )
    max_dropped: float = Field(
        ge=0, le=1, description="the stage fails when a larger share of the training examples is dropped"
    )

    @model_validator(mode="after")
    def _retries_differ(self) -> "RewriteParams":
        if self.retries and not self.temperature:
            raise ValueError("temperature 0 writes the same text at every try: set retries to 0, or a temperature")
        return self


class TraceGateParams(Strict):
    """What the gate behind linearize asks of all chains together."""

    max_answer_share: float = Field(
        gt=0, le=1, description="largest share of the problems with the same answer, which would teach that answer"
    )


class LinearizeParams(Strict):
    """Trees -> chains of thought (paper sections 2.3 and 2.4)."""

    reflection: bool = Field(description="False: direct solutions from the same trees, as many of them")
    phrases: bool = Field(description="False: wrong branches kept, reflection text removed")
    phrase_file: str = Field(description="texts of reflection and return")
    max_backtracks: int = Field(ge=0, description="k': at most so many wrong terminals per chain")
    direct_share: float = Field(ge=0, le=1, description="share of chains without a wrong branch")
    traces_per_tree: int = Field(ge=1, description="chains made of one tree, at most")
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
    writer: Literal["template", "lm"] = Field(description="what makes text of a node sequence: phrases, or the model")
    lm: RewriteParams
    gate: TraceGateParams

    @model_validator(mode="after")
    def _mix(self) -> "LinearizeParams":
        if self.reflection and self.max_backtracks == 0 and self.direct_share < 1:
            raise ValueError(
                "max_backtracks 0 leaves only direct solutions: set direct_share to 1 or reflection to false"
            )
        return self


Fault = Literal["empty", "cut", "markup", "paragraphs", "length", "lost", "added", "answer", "unnamed"]
"""Why a rewrite is rejected; what each means: `RewriteFaults`."""


class RewriteFaults(Strict):
    """Rejected rewrites by reason."""

    empty: int = Field(default=0, ge=0, description="nothing was written")
    cut: int = Field(default=0, ge=0, description="cut by max_tokens or by the model's context")
    markup: int = Field(default=0, ge=0, description="holds special tokens or the marks of a chat turn")
    paragraphs: int = Field(default=0, ge=0, description="not one paragraph, or one that reads as a jump")
    length: int = Field(default=0, ge=0, description="too short or too long for what it rewrites")
    lost: int = Field(default=0, ge=0, description="a number, or too many formulas or words of the step, are missing")
    added: int = Field(default=0, ge=0, description="holds a number or an equation that stands nowhere before")
    answer: int = Field(default=0, ge=0, description="answer missing, boxed where it must not be, or a new one")
    unnamed: int = Field(default=0, ge=0, description="a return that does not say which step it goes back to")


class RewriteMetrics(Strict):
    """How the rewriting went, over both training sets."""

    chains: int = Field(ge=0, description="different chains")
    segments: int = Field(ge=0, description="segments of the chains that were not dropped")
    fallbacks: int = Field(ge=0, description="segments for which the template's text stands")
    requests: int = Field(ge=0, description="texts asked for, retries among them")
    dropped: int = Field(ge=0, description="chains dropped")
    left_out: float = Field(
        ge=0, le=1, description="share of training examples missing: theirs, or the direct chain beside it, was dropped"
    )
    rejected: RewriteFaults = Field(description="texts that failed a check, by reason")
    dropped_for: RewriteFaults = Field(description="dropped chains, by what the last try failed")


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
    rewrites: RewriteMetrics | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that the metrics of the template writer keep their bytes
        description="writer lm",
    )
