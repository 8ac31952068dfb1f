"""docs/metrics.md names every number that the metrics schemas hold, under the name it is logged by, and no other."""

import re
from pathlib import Path
from typing import get_args, get_origin

import pytest

from astro.arms import baselines, by_arm
from astro.evaluation.compute_matched import at_equal_tokens, budget_curves
from astro.evaluation.summary import comparisons, summarise
from astro.tracking.names import numbers
from schemas.base_model import BaseModelMetrics
from schemas.evaluate import (
    AfterBacktracks,
    AttemptMetrics,
    BudgetCurve,
    EqualTokens,
    EvalMetrics,
    LimitCurve,
    ModelMetrics,
    PairedDifference,
)
from schemas.grpo import GrpoMetrics, ValidationPoint
from schemas.linearize import LinearizeMetrics
from schemas.mcts import MctsMetrics
from schemas.problems import ProblemsMetrics
from schemas.run import READINGS
from schemas.sft import SftMetrics
from schemas.strict import Strict

STAGES = {
    "problems": ProblemsMetrics,
    "base": BaseModelMetrics,
    "mcts": MctsMetrics,
    "linearize": LinearizeMetrics,
    "sft": SftMetrics,
    "grpo": GrpoMetrics,
    "eval": EvalMetrics,
}
KEYS = {  # records in a list -> the fields that name them
    AfterBacktracks: ["backtracks"],
    AttemptMetrics: ["attempt"],
    PairedDifference: ["better", "worse"],
    EqualTokens: ["better", "worse"],
}
CURVES = {BudgetCurve, LimitCurve, ValidationPoint}  # records in a list that are drawn, not logged


def names_in(schema, path):
    """Names of all numbers of a metrics class, with <...> for what the data names."""
    for name, field in schema.model_fields.items():
        yield from _names(field.annotation, f"{path}/{name}")


def _names(kind, path):
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        named = "reading" if arguments[0] is not str else "model" if arguments[1] is ModelMetrics else "set"
        yield from _names(arguments[1], f"{path}/<{named}>")
    elif get_origin(kind) is list and arguments[0] in CURVES:
        return
    elif get_origin(kind) is list:
        keys = KEYS[arguments[0]]
        path += "/" + "-".join(f"<{key}>" for key in keys)
        yield from (n for n in names_in(arguments[0], path) if n.rpartition("/")[2] not in keys)
    elif strict := [k for k in (kind, *arguments) if isinstance(k, type) and issubclass(k, Strict)]:
        yield from names_in(strict[0], path)  # or None
    else:
        yield path


@pytest.fixture(scope="module")
def documented():
    """{section: names} of the tables; a row may add `/low` and so on to its first name."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        section, _, body = part.partition("\n")
        names = found.setdefault(section, [])
        for cell in re.findall(r"^\| (`.*?`) \|", body, flags=re.MULTILINE):
            first, *more = re.findall(r"`(.*?)`", cell)
            if section == "eval" and not first.startswith("eval/"):
                first = f"eval/sets/<set>/<model>/{first}"
            names += [first, *(first.rpartition("/")[0] + other for other in more)]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_is_documented_once(documented, stage):
    assert sorted(documented[stage]) == sorted(names_in(STAGES[stage], stage))


def test_documented_names_are_those_logged(documented, completion, chain):
    """A real EvalMetrics, flattened as for MLflow."""
    walked = chain(("a", -1, "Wn"), ("b", -1, "Ry"), back=[(0, -1)])
    more = [
        (1, "wrong", 12, chain()),
        (2, "correct", 30, chain()),
        (3, "wrong", 31, walked),
    ]  # so that all figures vary
    done = {
        model: [completion(verdict, model=model, problem=p, chain=c) for p, verdict, c in rows]
        + [
            completion(verdict, model=model, problem=p, sample=i, tokens=tokens, chain=c)
            for p, *_ in rows
            for i, verdict, tokens, c in more
        ]
        for model, rows in {
            "base": [("p", "wrong", walked), ("q", "correct", chain())],
            "sft": [("p", "correct", walked), ("q", "wrong", chain())],
        }.items()
    }
    models, differences = summarise(done, pairs=comparisons(by_arm(), baselines()), majority=1, resamples=100, seed=0)
    curves = budget_curves(done, baselines=baselines(), resamples=100, seed=0)
    metrics = EvalMetrics(
        samples=1,
        seed=0,
        sets={"easy": models},
        differences={"easy": differences},
        budgets={"easy": curves},
        equal_tokens={"easy": at_equal_tokens(curves, baselines())},
        base_by_reading={"easy": dict.fromkeys(READINGS, models["base"].pass_at_1)},
    )
    logged = set(numbers(metrics.model_dump(), prefix="eval"))
    shapes = [
        (r"^eval/(sets|differences|equal_tokens|base_by_reading)/easy/", r"eval/\1/<set>/"),
        (r"<set>/(base|sft)/", "<set>/<model>/"),
        (r"<set>/(box|box_or_statement)/", "<set>/<reading>/"),
        (r"/sft-base(_best_of_n|_majority)?/", "/<better>-<worse>/"),
        (r"/by_(backtrack|attempt)(s?)/\d+/", r"/by_\1\2/<\1\2>/"),
    ]
    for pattern, name in shapes:
        logged = {re.sub(pattern, name, n) for n in logged}
    assert logged == set(documented["eval"])
