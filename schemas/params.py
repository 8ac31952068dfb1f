"""params.yaml as a whole: a section per stage, those that stages share (`run`, `engine`), and `execution`, which none tracks."""

from pydantic import model_validator

from schemas.base import Strict
from schemas.base_model import BaseModelParams
from schemas.engine import EngineParams
from schemas.evaluate import EvalParams
from schemas.execution import ExecutionParams
from schemas.grpo import GrpoParams
from schemas.linearize import LinearizeParams
from schemas.mcts import MctsParams
from schemas.problems import ProblemsParams, SourceSpec
from schemas.report import ReportParams
from schemas.run import RunParams
from schemas.sft import SftParams

_PLAIN = SourceSpec(path="-").model_dump(exclude={"path"})
"""A source that is a path and nothing more."""


class Params(Strict):
    """The whole of params.yaml."""

    run: RunParams
    engine: EngineParams
    execution: ExecutionParams
    problems: ProblemsParams
    base: BaseModelParams
    mcts: MctsParams
    linearize: LinearizeParams
    sft: SftParams
    grpo: GrpoParams
    eval: EvalParams
    report: ReportParams

    @model_validator(mode="after")
    def _domain_has_what_is_asked_of_it(self) -> "Params":
        if self.run.domain == "math" and self.problems.source == "generated":
            raise ValueError(
                "run.domain math: problems.source generated makes Countdown problems only; set problems.source to files and "
                "name them in problems.files (docs/problems.md)"
            )
        if self.run.domain == "math" and self.base.source == "train":
            raise ValueError(
                "run.domain math: base.source train makes a model of Countdown; set base.source to pretrained and name a "
                "model in base.pretrained.path"
            )
        if self.run.domain == "countdown" and self.run.prompt == "chat":
            raise ValueError(
                "run.prompt chat: run.domain countdown is written in the words of the model that is trained here, which knows "
                "no messages; set run.prompt to plain, or run.domain to math"
            )
        if self.run.domain == "countdown" and self.linearize.writer == "lm":
            raise ValueError(
                "run.domain countdown: its chains are read back by an exact syntax, which a rewrite would not keep; set "
                "linearize.writer to template"
            )
        mapped = [n for n, spec in self.problems.files.items() if spec.model_dump(exclude={"path"}) != _PLAIN]
        if self.run.domain == "countdown" and mapped:
            raise ValueError(
                f"run.domain countdown: problems.files takes paths only, but {mapped} name a dataset or a map"
            )
        return self
