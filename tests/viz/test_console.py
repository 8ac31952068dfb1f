"""The console table: figures equal the metrics, lines stay narrow, absent models and chances are no error."""

import pytest

from astro.viz.console import WIDTH, console_table
from schemas.evaluate import EvalMetrics

CHANCES = {"numbers_3": 0.09, "numbers_4": None}


def test_cells_hold_the_metrics(metrics):
    table = console_table(metrics, CHANCES)
    rows = {line.split()[0]: line for line in table.splitlines() if line and not line.startswith(" ")}
    for model, label in {"base": "base", "sft": "ASTRO-SFT", "grpo": "ASTRO-RL"}.items():
        for models in metrics.sets.values():
            one = models[model].pass_at_1
            assert f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}] n={one.n}" in rows[label]
    assert rows["chance"].split() == ["chance", "9.0", "-"]


def test_rows_are_in_pipeline_order(metrics):
    firsts = [line.split()[0] for line in console_table(metrics, {}).splitlines() if line and not line.startswith(" ")]
    assert firsts[1:4] == ["base", "ASTRO-SFT", "ASTRO-RL"]  # after the title; no chance row, since none is known


def test_details_hold_signed_differences_and_behaviour(metrics):
    text = console_table(metrics, CHANCES)
    assert "ASTRO-SFT - base +33.3 [+30.2, +36.4]" in text
    assert "ASTRO-RL - ASTRO-SFT +1.1 [-2.0, +4.2]" in text
    assert "ASTRO-RL 2.31 a chain" in text


@pytest.mark.parametrize("sets", [1, 2, 5, 9])
def test_lines_stay_narrow_and_columns_aligned(metrics, sets):
    one = metrics.sets["numbers_3"]
    many = metrics.model_copy(update={"sets": {f"set_{i}": one for i in range(sets)}})
    lines = console_table(many, {"set_0": 0.5}).splitlines()
    assert max(map(len, lines)) <= WIDTH
    headers = [i for i, line in enumerate(lines) if line.startswith(" ") and line.strip().startswith("set_")]
    assert sum(len(lines[i].split()) for i in headers) == sets  # every set stands in exactly one header
    for i in headers:
        base = next(line for line in lines[i:] if line.startswith("base"))
        assert [base[lines[i].index(name) :].lstrip().startswith("29.1 [") for name in lines[i].split()]


def test_a_missing_model_is_a_dash(metrics):
    sets = {"a": {"base": metrics.sets["numbers_3"]["base"]}, "b": metrics.sets["numbers_4"]}
    table = console_table(metrics.model_copy(update={"sets": sets, "differences": {}}), {})
    row = next(line for line in table.splitlines() if line.startswith("ASTRO-SFT"))
    assert row.split()[1] == "-"
    assert "not available" in table


def test_nothing_measured():
    assert console_table(EvalMetrics(samples=1, seed=0, sets={}, differences={}), {}) == "no eval set was measured"
