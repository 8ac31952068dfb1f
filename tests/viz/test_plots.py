"""Pictures where the page's tests cannot see into them: what is drawn at equal tokens, and what is cut off."""

import re

import pytest

from astro.viz import plots
from schemas.evaluate import BudgetCurve, BudgetPoint
from tests.viz.example import SCORES, estimate, make_budgets


def curve(label: str, method: str, *points: tuple[float, float]) -> BudgetCurve:
    """points: (tokens, accuracy)."""
    made = [
        BudgetPoint(budget=i + 1, tokens=tokens, accuracy=estimate(value, reach=0.0))
        for i, (tokens, value) in enumerate(points)
    ]
    return BudgetCurve(label=label, method=method, points=made)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_equal_tokens_names_every_curve_and_says_who_is_an_oracle():
    svg = plots.equal_tokens(make_budgets(SCORES["numbers_3"]), "x")
    named = [text for text in texts(svg) if ", " in text]
    assert named == [
        "ASTRO-RL, one chain",
        "ASTRO-SFT, one chain",
        "Direct-RL, best of N (oracle)",
        "Direct-RL, vote of N",
        "Direct-SFT, best of N (oracle)",
        "Direct-SFT, vote of N",
        "base, best of N (oracle)",
        "base, vote of N",
        "base, tree search (oracle)",
    ]


def test_equal_tokens_has_a_logarithmic_axis():
    svg = plots.equal_tokens([curve("base", "majority", (20, 0.1), (200, 0.2), (2000, 0.3))], "x")
    assert {"20", "50", "100", "200", "500", "1000", "2000"} <= set(texts(svg))


@pytest.mark.parametrize("curves", [[], [curve("base", "majority", (0, 0.0))]])  # no tokens have no logarithm
def test_equal_tokens_without_a_point(curves):
    assert plots.equal_tokens(curves, "x") is None


def test_where_a_cut_chain_is_never_right_nothing_is_shown():
    mine = curve("grpo", "one_sample", (2, 0.0), (9, 0.0), (40, 0.1), (90, 0.4))
    other = curve("base", "majority", (30, 0.0), (60, 0.0))
    assert plots._first_of_interest([(c, c.points) for c in (mine, other)]) == 30
    assert plots._first_of_interest([(mine, mine.points)]) == 40
    never = curve("grpo", "one_sample", (2, 0.0), (9, 0.0))
    assert plots._first_of_interest([(never, never.points)]) == 2


def test_the_arms_of_a_figure_without_a_curve():
    rows = [{"step": 1.0, "reward": 0.5}]
    assert plots.without_curve({"grpo": rows}, "rl") == ["grpo_direct"]
    assert plots.without_curve({"grpo": rows, "grpo_direct": rows}, "rl") == []
    assert plots.without_curve({"sft": [{"step": 1.0, "lr": 0.5}]}, "sft") == ["sft_direct", "sft"]  # no such column
