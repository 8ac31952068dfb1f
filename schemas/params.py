"""Contract of params.yaml: one section per stage, sections that stages share (`run`, `engine`), and two sections that no stage
tracks (`execution`, `tracking`).
"""

import difflib
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError, model_validator

from schemas.arms import ArmParams
from schemas.base_model import BaseModelParams
from schemas.engine import EngineParams
from schemas.evaluate import EvalParams
from schemas.execution import ExecutionParams
from schemas.grpo import GrpoParams
from schemas.linearize import LinearizeParams
from schemas.mcts import MctsParams
from schemas.problems import ProblemsParams
from schemas.renamed import remedy
from schemas.report import ReportParams
from schemas.run import TASKS, RunParams
from schemas.sft import SftParams
from schemas.strict import Strict
from schemas.tracking import TrackingParams

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def laid_over(values: dict, changes: dict) -> dict:
    """Merge `changes` into `values`, section by section. Unknown keys are kept, so that the contract refuses them."""
    nested = {
        k: laid_over(values[k], v)
        for k, v in changes.items()
        if isinstance(v, dict) and isinstance(values.get(k), dict)
    }
    return {**values, **changes, **nested}


def _message(fault: "ErrorDetails", contract: str) -> str:
    """Describe an invalid parameter of an arm. For an unknown one the present or the nearest name is suggested."""
    if fault["type"] != "extra_forbidden":
        return fault["msg"]
    section, known = ("sft", SftParams.model_fields) if contract == "SftParams" else ("grpo", GrpoParams.model_fields)
    if renamed := remedy((section, *fault["loc"])):
        return f"unknown parameter{renamed}"
    close = difflib.get_close_matches(str(fault["loc"][-1]), known, 1)
    return "unknown parameter" + (f"; the nearest is {close[0]}" if close else "")


class Params(Strict):
    """All of params.yaml."""

    run: RunParams
    engine: EngineParams
    execution: ExecutionParams
    tracking: TrackingParams
    problems: ProblemsParams
    base: BaseModelParams
    mcts: MctsParams
    linearize: LinearizeParams
    arms: dict[str, ArmParams] = Field(description="arm of arms.yaml -> its own values of `sft` and `grpo`")
    sft: SftParams
    grpo: GrpoParams
    eval: EvalParams
    report: ReportParams

    def of_arm(self, arm: str) -> "Params":
        """The params with the arm's own values of `sft` and `grpo`.

        Raises:
            ValidationError: a value is not allowed, or the parameter does not exist.
        """
        own = self.arms[arm]
        sft = SftParams.model_validate(laid_over(self.sft.model_dump(), own.sft))
        grpo = GrpoParams.model_validate(laid_over(self.grpo.model_dump(), own.grpo))
        return self.model_copy(update={"sft": sft, "grpo": grpo})

    @model_validator(mode="after")
    def _arms_are_valid(self) -> "Params":
        for name in self.arms:
            try:
                self.of_arm(name)
            except ValidationError as error:
                faults = [
                    f"{'.'.join(map(str, fault['loc']))}: {_message(fault, error.title)}" for fault in error.errors()
                ]
                raise ValueError(f"arms.{name}: {error.title}: {'; '.join(faults)}") from None
        return self

    @model_validator(mode="after")
    def _rl_has_problems_and_room(self) -> "Params":
        """Refuse now what RL would refuse after hours, where the params alone say it."""
        for name in self.arms:
            grpo = self.of_arm(name).grpo
            if not grpo.steps:
                continue
            held_out, needed = grpo.validation.problems, grpo.prompts_per_step
            left = min(self.problems.rl - held_out, grpo.pass_rate.problems)
            if self.problems.source == "generated" and left < needed:
                raise ValueError(
                    f"grpo: of problems.rl {self.problems.rl}, grpo.validation.problems {held_out} and "
                    f"grpo.pass_rate.problems {grpo.pass_rate.problems} leave {max(0, left)} for training, but one step "
                    f"needs grpo.prompts_per_step {needed}; raise problems.rl, hold out fewer, or lower prompts_per_step"
                )
            context = self.base.model.context
            if self.base.source == "train" and grpo.max_completion_length >= context:
                raise ValueError(
                    f"grpo.max_completion_length {grpo.max_completion_length} leaves no room for a prompt: "
                    f"base.model.context is {context}; lower the one, or raise the other"
                )
        return self

    @model_validator(mode="after")
    def _task_has_what_is_asked_of_it(self) -> "Params":
        if self.run.task in TASKS and self.run.options:
            raise ValueError(f"run.options: run.task {self.run.task} has no options; set run.options to {{}}")
        if self.run.task == "countdown":
            wanted = {"problems.levels": self.problems.levels, "base.corpus.levels": self.base.corpus.levels}
            wanted |= {f"problems.eval.{name}.level": {str(s.level): 1.0} for name, s in self.problems.eval.items()}
            for where, levels in wanted.items():
                if bad := [level for level in levels if not (level.isdigit() and 2 <= int(level) <= 6)]:
                    raise ValueError(f"{where}: with run.task countdown a level is 2..6 numbers per problem, not {bad}")
        if self.run.task == "math" and self.problems.source == "generated":
            raise ValueError(
                "run.task math: problems.source generated only makes Countdown problems; set problems.source to "
                "files and name them in problems.files (docs/problems.md)"
            )
        if self.run.task == "math" and self.base.source == "train":
            raise ValueError(
                "run.task math: base.source train makes a Countdown model; set base.source to pretrained and name "
                "a model in base.pretrained.path"
            )
        if self.run.task == "math" and self.base.warmup.steps:
            raise ValueError(
                f"base.warmup.steps {self.base.warmup.steps}: run.task math has no corpus of its own to warm up on; set it to 0"
            )
        if self.run.prompt == "chat" and self.base.source == "train":
            raise ValueError(
                "run.prompt chat: a base trained in this run (base.source train) is not a chat model; set "
                "run.prompt to plain, or base.source to pretrained"
            )
        if self.run.task != "math" and self.run.answers != "box":
            raise ValueError(
                f"run.answers {self.run.answers}: run.task {self.run.task} has its own answer syntax; set "
                "run.answers to box, or run.task to math"
            )
        if self.run.task != "math" and self.linearize.writer == "lm":
            raise ValueError(
                f"run.task {self.run.task}: its chains must keep an exact syntax, which a rewrite by the model "
                "would change; set linearize.writer to template"
            )
        return self
