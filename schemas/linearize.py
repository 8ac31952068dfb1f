"""Contracts of the linearize stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.strict import Strict


class SelfEvalParams(Strict):
    """Self-evaluation: the LM votes on each candidate solution (Appendix A.1)."""

    votes: int = Field(ge=1, description="number of votes, N")
    min_share: float = Field(ge=0, le=1, description="share of votes for 'sound' that a solution needs")
    max_tokens: int = Field(
        ge=1, description="longest vote in tokens; an instruct model may say 'Yes, ...', of which the first word counts"
    )


class RewriteParams(Strict):
    """`writer: lm`: the model rewrites each chain segment by segment (paper section 2.4)."""

    shots: int = Field(ge=0, description="few-shot examples per prompt, at most as many as the file contains")
    temperature: float = Field(ge=0, description="sampling temperature of the rewrites")
    max_tokens: int = Field(ge=1, description="longest rewrite of one segment, in tokens")
    retries: int = Field(ge=0, description="further tries for a segment whose rewrite fails a check")
    on_failure: Literal["drop", "template"] = Field(
        description="after the last try: drop the chain, or use the template's text for the segment"
    )
    max_dropped: float = Field(
        ge=0, le=1, description="largest share of dropped training examples before the stage fails"
    )

    @model_validator(mode="after")
    def _retries_differ(self) -> "RewriteParams":
        if self.retries and not self.temperature:
            raise ValueError("temperature 0 gives the same text at every try; set retries to 0, or temperature above 0")
        return self


class TraceGateParams(Strict):
    """Limits of the gate after linearize, over all chains together."""

    max_answer_share: float = Field(
        gt=0,
        le=1,
        description=("largest share of problems with the same answer, because a frequent answer would be learned"),
    )


class LinearizeParams(Strict):
    """Conversion of trees to chains of thought (paper sections 2.3 and 2.4)."""

    reflection: bool = Field(description="false: direct solutions from the same trees, in the same number")
    phrases: bool = Field(description="false: keep wrong branches but remove the reflection text")
    phrase_file: str = Field(description="file with the texts of reflection and return")
    max_backtracks: int = Field(ge=0, description="k': largest number of wrong terminals per chain")
    direct_share: float = Field(ge=0, le=1, description="share of chains without a wrong branch")
    traces_per_tree: int = Field(ge=1, description="largest number of chains from one tree")
    jump: Literal["common_ancestor", "root", "random_ancestor"] = Field(description="where a chain goes back to")
    back_from: Literal["terminal", "dead_end"] = Field(
        description=(
            "where a wrong branch is given up: at its end (as in the paper), or at its first step without a known way"
            " to a correct end"
        )
    )
    order: Literal["random", "depth_first"] = Field(
        description=(
            "order of the wrong branches: random, or subtree by subtree, so that a chain never returns to a step that"
            " it has left"
        )
    )
    require_sound_steps: bool = Field(
        description=(
            "use only right solutions without a false step, and wrong ones whose answer is readable; in Countdown every"
            " step of both must be legal, and the own check true"
        )
    )
    filter: Literal["none", "value", "self_eval"] = Field(description="which correct terminals are good enough")
    min_value: float = Field(ge=0, le=1, description="filter value: lowest Q on the path to the correct terminal")
    self_eval: SelfEvalParams
    writer: Literal["template", "lm"] = Field(
        description=("writer of the text of a node sequence: phrases, or the model")
    )
    lm: RewriteParams
    gate: TraceGateParams

    @model_validator(mode="after")
    def _mix(self) -> "LinearizeParams":
        if self.reflection and self.max_backtracks == 0 and self.direct_share < 1:
            raise ValueError(
                "max_backtracks 0 leaves only direct solutions; set direct_share to 1, or reflection to false"
            )
        return self


Fault = Literal["empty", "cut", "markup", "paragraphs", "length", "lost", "added", "answer", "unnamed"]
"""Reasons for rejecting a rewrite. `RewriteFaults` explains them."""


class RewriteFaults(Strict):
    """Rejected rewrites by reason."""

    empty: int = Field(default=0, ge=0, description="empty text")
    cut: int = Field(default=0, ge=0, description="cut by max_tokens or by the model's context")
    markup: int = Field(default=0, ge=0, description="contains special tokens or the marks of a chat turn")
    paragraphs: int = Field(default=0, ge=0, description="not one paragraph, or one that reads as a jump")
    length: int = Field(default=0, ge=0, description="too short or too long for what it rewrites")
    lost: int = Field(default=0, ge=0, description="a number, or too many formulas or words of the step, are missing")
    added: int = Field(default=0, ge=0, description="contains a number or an equation that occurs nowhere before")
    answer: int = Field(default=0, ge=0, description="answer missing, boxed in the wrong place, or new")
    unnamed: int = Field(default=0, ge=0, description="a return that does not name the step that it goes back to")


class RewriteMetrics(Strict):
    """Statistics of the rewriting, over both training sets."""

    chains: int = Field(ge=0, description="number of different chains")
    segments: int = Field(ge=0, description="segments of the chains that were kept")
    fallbacks: int = Field(ge=0, description="segments that kept the template's text")
    requests: int = Field(ge=0, description="requested texts, including retries")
    dropped: int = Field(ge=0, description="dropped chains")
    left_out: float = Field(
        ge=0,
        le=1,
        description=("share of training examples lost because their chain or its direct counterpart was dropped"),
    )
    rejected: RewriteFaults = Field(description="texts that failed a check, by reason")
    dropped_for: RewriteFaults = Field(description="dropped chains, by the fault of the last try")


class LinearizeMetrics(Strict):
    """Content of metrics/linearize.json."""

    traces: int = Field(ge=0)
    direct: int = Field(ge=0)
    search: int = Field(ge=0)
    trees_used: int = Field(ge=0)
    trees_unsolved: int = Field(ge=0, description="trees without a correct terminal")
    trees_filtered: int = Field(ge=0, description="trees with correct terminals, of which none passed the filter")
    backtracks: float = Field(ge=0, description="mean number of returns per search trace")
    characters: float = Field(ge=0, description="mean length of a completion in characters")
    longest: int = Field(ge=0, description="longest completion in characters")
    rewrites: RewriteMetrics | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # keeps the bytes of the template writer's metrics
        description="only for writer lm",
    )
