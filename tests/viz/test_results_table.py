"""The console table: figures equal the metrics, lines stay narrow, absent models and chances are no error."""

import pytest

from astro.viz.results_table import WIDTH, console_table
from schemas.evaluate import EvalMetrics
from tests.viz.example import estimate

CHANCES = {"numbers_3": 0.09, "numbers_4": None}
LABELS = {
    "base": "base",
    "sft_direct": "Direct-SFT",
    "sft": "ASTRO-SFT",
    "grpo_direct": "Direct-RL",
    "grpo": "ASTRO-RL",
}


def block(table: str, name: str) -> list[str]:
    """The lines below a set's heading."""
    lines = table.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name}: "))
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return lines[start + 1 : end]


def share(value) -> str:
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def test_every_set_has_a_row_per_model_with_its_figures(metrics):
    table = console_table(metrics, CHANCES)
    for name, models in metrics.sets.items():
        rows = block(table, name)
        for row, (model, label) in zip(rows[1:6], LABELS.items(), strict=True):  # in pipeline order
            figures = models[model]
            expected = [share(x) for x in (figures.pass_at_1, figures.maj_at_k, figures.first_attempt)]
            expected += [f"{figures.tokens:.0f}", f"{figures.backtracks:.2f}"]
            assert row.split() == " ".join([label, *expected]).split()


def test_headings_hold_problems_and_chance(metrics):
    table = console_table(metrics, CHANCES)
    assert "numbers_3: 300 problems, random legal path 9.0 %" in table.splitlines()
    assert "numbers_4: 300 problems" in table.splitlines()
    assert "8 samples per problem, seed 7" in table


def test_the_main_differences_come_first(metrics):
    rows = block(console_table(metrics, {}), "numbers_3")
    start = next(i for i, row in enumerate(rows) if row.startswith("  differences of pass@1"))
    assert rows[start + 1].strip().startswith("ASTRO-SFT - Direct-SFT +21.2 [+18.1, +24.3]")
    text = " ".join(" ".join(rows[start + 1 :]).split())
    places = [
        text.index(pair)
        for pair in (
            "ASTRO-SFT - Direct-SFT +21.2",
            "ASTRO-RL - Direct-RL +18.0 [+14.9, +21.1]",
            "ASTRO-RL - ASTRO-SFT +8.9",
            "ASTRO-RL - base +42.2",
            "ASTRO-SFT - base +33.3",
            "Direct-SFT - base",
            "Direct-RL - Direct-SFT",
        )
    ]
    assert places == sorted(places)


def test_one_behaviour_line_for_each_arm_that_searches(metrics):
    rows = block(console_table(metrics, {}), "numbers_4")
    said = [" ".join(row.split()) for row in rows[rows.index("  behaviour in %:") + 1 :]]
    assert said == [
        f"{label} stops when right 97.0 goes back when wrong 93.0 repeats 8.0 truncated 4.0"
        for label in ("ASTRO-SFT", "ASTRO-RL")
    ]


@pytest.mark.parametrize("sets", [1, 5])
def test_lines_stay_narrow_at_the_widest_figures(metrics, sets):
    full = estimate(1.0, reach=0.0)
    wide = {
        model: figures.model_copy(
            update={"pass_at_1": full, "maj_at_k": full, "first_attempt": full, "tokens": 99999.0, "backtracks": 1000.0}
        )
        for model, figures in metrics.sets["numbers_3"].items()
    }
    pairs = [
        pair.model_copy(update={"difference": estimate(-1.0, reach=0.0)}) for pair in metrics.differences["numbers_3"]
    ]
    names = ["x" * 200, *(f"set_{i}" for i in range(1, sets))]
    many = metrics.model_copy(
        update={"sets": dict.fromkeys(names, wide), "differences": dict.fromkeys(names, pairs), "budgets": {}}
    )
    lines = console_table(many, {"set_1": 0.5}).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum("100.0 [100.0, 100.0]" in line for line in lines) == 5 * sets
    assert sum(line.count("-100.0 [-100.0, -100.0]") for line in lines) == 7 * sets


def test_columns_are_aligned(metrics):
    rows = block(console_table(metrics, {}), "numbers_3")[:6]
    assert {row.index("[") for row in rows[1:]} == {rows[0].index("pass@1") + 6}
    assert len({len(row) for row in rows}) == 1  # the last column ends at the same place


def test_a_missing_model_is_dashes(metrics):
    sets = {"a": {"base": metrics.sets["numbers_3"]["base"]}, "b": metrics.sets["numbers_4"]}
    table = console_table(metrics.model_copy(update={"sets": sets, "differences": {}}), {})
    row = next(line for line in block(table, "a") if "ASTRO-SFT" in line)
    assert row.split() == ["ASTRO-SFT", *"-----"]
    assert "differences of pass@1 in points, paired on problems: not available" in table
    assert "behaviour: not available (ASTRO-SFT and ASTRO-RL were not measured)" in block(table, "a")[-1]


def test_a_figure_without_a_value_is_a_dash(metrics):
    direct = metrics.sets["numbers_3"]["grpo_direct"]  # an ablation trains the arm on direct solutions
    table = console_table(metrics.model_copy(update={"sets": {"a": {"grpo": direct}}, "differences": {}}), {})
    assert "stops when right - goes back when wrong - repeats - truncated 0.0" in " ".join(table.split())


def test_nothing_measured():
    assert console_table(EvalMetrics(samples=1, seed=0, sets={}, differences={}), {}) == "no eval set was measured"
