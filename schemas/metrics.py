"""The contract of each metrics/<stage>.json."""

from pydantic import BaseModel

from schemas.base_model import BaseModelMetrics
from schemas.evaluate import EvalMetrics
from schemas.grpo import GrpoMetrics
from schemas.linearize import LinearizeMetrics
from schemas.mcts import MctsMetrics
from schemas.problems import ProblemsMetrics
from schemas.sft import SftMetrics

CONTRACTS: dict[str, type[BaseModel]] = {
    "problems": ProblemsMetrics,
    "base": BaseModelMetrics,
    "mcts": MctsMetrics,
    "linearize": LinearizeMetrics,
    "sft": SftMetrics,
    "grpo": GrpoMetrics,
    "eval": EvalMetrics,
}
"""Script of a stage -> contract of its metrics, in the order of the pipeline. sft and grpo write one file per arm."""
