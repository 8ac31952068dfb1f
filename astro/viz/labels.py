"""Names, colours and number formats that the console table and the page share.

It does without matplotlib, because the console does not need it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from astro.arms import BASE, RAW, all_models, baselines, by_arm, models
from schemas.evaluate import Estimate, PairedDifference


class ModelStyle(NamedTuple):
    """The look of one model."""

    label: str
    colour: str  # readable on white and on near-black
    marker: str  # a matplotlib marker; shapes differ, so that a grey print still distinguishes the models


_BASE = ModelStyle("base", "#868e99", "o")
_RAW = ModelStyle("base before its warm-up", "#b3a08a", "*")

METHODS = {
    "one_sample": "one chain",
    "best_of_n": "best of N (oracle)",
    "majority": "vote of N",
    "search": "tree search (oracle)",
}
"""Ways to spend tokens (`BudgetCurve.method`). An oracle knows the right answer when it chooses."""

_OTHER = ModelStyle("", "#9a5fc0", "P")

MINUS = "\u2212"


def style(model: str) -> ModelStyle:
    """Label, colour and marker of a model key; an unknown key is its own label."""
    if model in (BASE, RAW):
        return _BASE if model == BASE else _RAW
    known = models().get(model)
    return ModelStyle(known.label, known.colour, known.marker) if known else _OTHER._replace(label=model)


def ordered(models: Iterable[str]) -> list[str]:
    """Model keys in pipeline order, unknown ones after them by name."""
    rank = {name: position for position, name in enumerate(all_models())}
    return sorted(models, key=lambda name: (rank.get(name, len(rank)), name))


def searchers(models: Iterable[str]) -> list[str]:
    """Those of the models that have a baseline, in pipeline order."""
    return [model for model in ordered(models) if model in baselines()]


def main_model() -> str:
    """The model of the headline: the first arm with a baseline, after RL."""
    return next((grpo for _, grpo in by_arm() if grpo in baselines()), BASE)


def main_pairs() -> list[tuple[str, str]]:
    """(better, worse) of the most important comparisons: what the search prior adds, then what RL adds."""
    found = list(baselines().items())
    for sft, grpo in by_arm():
        if grpo in baselines():
            found += [(grpo, sft), (grpo, BASE)]
    return found


def main_first(pairs: Iterable[PairedDifference]) -> list[PairedDifference]:
    """The comparisons of `main_pairs` in that order, then the others in their order."""
    rank = {pair: place for place, pair in enumerate(main_pairs())}
    return sorted(pairs, key=lambda pair: rank.get((pair.better, pair.worse), len(rank)))


def problems(estimates: Iterable[Estimate]) -> str:
    """Number of problems behind the estimates of one set, e.g. "500"; "200 to 500" if models differ."""
    counts = {estimate.n for estimate in estimates}
    return f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(*counts or {0})


def way(worse: str) -> str:
    """ "sft_direct_best_of_n" (`EqualTokens.worse`: label and method) in words: "Direct-SFT, best of N (oracle)"."""
    for method, words in METHODS.items():
        if worse.endswith(f"_{method}"):
            return f"{style(worse.removesuffix(f'_{method}')).label}, {words}"
    return worse


def percent(value: float | None, *, digits: int = 1) -> str:
    """A share (0..1) as a number of percent without the sign; "-" for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def interval(estimate: Estimate) -> str:
    """ "[low, high]" in percent."""
    return f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def points(value: float) -> str:
    """A difference of shares in percentage points, always signed, ASCII: "+3.2". A rounded zero is "+0.0"."""
    return f"{100 * value:+z.1f}"


def points_interval(estimate: Estimate) -> str:
    """ "[low, high]" in signed percentage points."""
    return f"[{points(estimate.low)}, {points(estimate.high)}]"


def clear_of_zero(estimate: Estimate) -> bool:
    """Whether the 95 % interval of a difference excludes zero."""
    return estimate.low > 0 or estimate.high < 0
