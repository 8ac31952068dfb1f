"""params.yaml as a whole: one section per stage, and the sections that stages share (`run`, `engine`)."""

from schemas.base import Strict
from schemas.base_model import BaseModelParams
from schemas.engine import EngineParams
from schemas.evaluate import EvalParams
from schemas.grpo import GrpoParams
from schemas.linearize import LinearizeParams
from schemas.mcts import MctsParams
from schemas.problems import ProblemsParams
from schemas.report import ReportParams
from schemas.run import RunParams
from schemas.sft import SftParams


class Params(Strict):
    """The whole of params.yaml."""

    run: RunParams
    engine: EngineParams
    problems: ProblemsParams
    base: BaseModelParams
    mcts: MctsParams
    linearize: LinearizeParams
    sft: SftParams
    grpo: GrpoParams
    eval: EvalParams
    report: ReportParams
