"""The table's arithmetic on figures small enough to do by hand."""

from pathlib import Path

import numpy as np
import pytest

from astro.ablations import table
from astro.ablations.experiment_results import Result
from astro.ablations.spec import Planned
from astro.evaluation.intervals import bootstrap_mean
from astro.process import UserError
from schemas.ablations import Ablation

MODEL = {"sft_direct": 0, "sft": 1, "grpo_direct": 2, "grpo": 3}
"""Place of a model among the figures of a set."""

DEFAULT = Ablation(name="default", question="q", set=[])
OTHER = Ablation(name="other", question="why?", set=["a.b=1"])


def result(sft: list[float], seed: int = 1, direct: list[float] | None = None) -> Result:
    """One set n3 with problems p0, p1, ..; grpo solves all."""
    ids = [f"p{i}" for i in range(len(sft))]
    scores = {("n3", "sft"): dict(zip(ids, sft, strict=True)), ("n3", "grpo"): dict.fromkeys(ids, 1.0)}
    if direct is not None:
        scores["n3", "sft_direct"] = dict(zip(ids, direct, strict=True))
    return Result({"n3": {i: f"{i} of {seed}" for i in ids}}, scores)


def build(results: dict, seeds=(1, 2)) -> table.AblationReport:
    planned = [Planned(a, s, {}) for s in seeds for a in (DEFAULT, OTHER)]
    commits = {f"{name}-s{seed}": "c" * 40 for name, seed in results}
    return table.report(planned, commits, results, commit="b" * 40, resamples=200, seed=5)


def test_differences_are_paired_within_seed_and_problem():
    found = build(
        {
            ("default", 1): result([0.0, 0.5], 1),
            ("default", 2): result([1.0, 0.25], 2),
            ("other", 1): result([0.5, 1.0], 1),
            ("other", 2): result([1.0, 0.0], 2),
        }
    )
    base, other = found.rows
    direct, sft, _, grpo = other.figures
    assert (direct.model, direct.pass_at_1, direct.difference) == ("sft_direct", None, None)  # of no run
    assert (sft.model, sft.pass_at_1, sft.seeds) == ("sft", 0.625, [1, 2])
    assert sft.difference == bootstrap_mean([0.5, 0.5, 0.0, -0.25], resamples=200, rng=np.random.default_rng(5))
    assert (sft.difference.value, sft.difference.n) == (0.1875, 4)
    assert [s.difference for s in sft.by_seed] == [0.5, -0.125]
    assert grpo.difference.value == 0
    assert base.figures[MODEL["sft"]].difference is None
    assert base.figures[MODEL["sft"]].pass_at_1 == 0.4375
    shown = table.text(found)
    assert "+18.8" in shown
    assert "-12.5 .. +50.0" in shown


def test_a_rounded_zero_has_no_minus():
    count = 2500
    found = build(
        {("default", 1): result([1.0] + [0.0] * count), ("other", 1): result([0.0] * (count + 1))}, seeds=(1,)
    )
    assert -0.0005 < found.rows[1].figures[MODEL["sft"]].difference.value < 0
    assert "-0.0" not in table.text(found)


def test_the_arms_of_a_run_are_paired_with_each_other():
    found = build(
        {
            ("default", 1): result([1.0, 0.5], 1, direct=[0.5, 0.5]),
            ("default", 2): result([1.0, 0.25], 2, direct=[0.0, 0.5]),
            ("other", 1): result([0.5, 1.0], 1),  # nothing to compare with
        }
    )
    (worth,), none = found.rows[0].arms, found.rows[1].arms
    assert none == []
    assert (worth.set, worth.model) == ("n3", "sft")
    assert worth.difference == bootstrap_mean([0.5, 0.0, 1.0, -0.25], resamples=200, rng=np.random.default_rng(5))
    assert [s.difference for s in worth.by_seed] == [0.25, 0.375]
    line = ("n3", "ASTRO-SFT - Direct-SFT", "default", "+31.2")
    assert [cells[:4] for cells in table.arm_cells(found)] == [line]
    assert table.arm_cells(found)[0][-3:] == ("+25.0 .. +37.5", "2/2", "4")
    assert "+25.0 .. +37.5" in table.text(found)
    assert "| ASTRO-SFT - Direct-SFT | default |" in table.markdown(found)
    assert "ASTRO-SFT" not in table.text(build({("default", 1): result([0.5, 0.5])}))


def test_only_seeds_that_both_have_are_paired():
    found = build(
        {("default", 1): result([0.0, 0.0], 1), ("other", 1): result([1.0, 0.0], 1), ("other", 2): result([1.0] * 2, 2)}
    )
    sft = found.rows[1].figures[MODEL["sft"]]
    assert (sft.pass_at_1, sft.seeds) == (0.75, [1, 2])
    assert (sft.difference.value, sft.difference.n) == (0.5, 2)
    assert "2/2, 1 paired" in table.text(found)
    assert [r.commit is None for r in found.rows[0].runs] == [False, True]


def test_missing_runs_are_dashes():
    found = build({("default", 1): result([0.5, 0.5], 1)})
    assert found.rows[1].figures[MODEL["sft"]].pass_at_1 is None
    assert next(c for c in table.cells(found) if c[:3] == ("n3", "sft", "other"))[3:] == (
        "-",
        "-",
        "-",
        "-",
        "0/2",
        "-",
    )
    assert table.cells(build({}))[0][2:4] == ("default", "-")
    assert "dvc exp run --name other-s2 -S a.b=1 -S run.seed=2" in table.markdown(found)


@pytest.mark.parametrize(
    ("odd", "differ"),
    [(result([0.5, 0.5], seed=9), "2 problems differ"), (result([0.5, 0.5, 0.5]), "1 problem differs")],
)
def test_other_problems_are_refused(odd, differ):
    """Other questions under the same ids; more problems."""
    with pytest.raises(
        UserError, match=f"other-s1 and default-s1 cannot be paired: in set n3 {differ}, the first is p"
    ):
        build({("default", 1): result([0.5, 0.5]), ("other", 1): odd})


def test_an_arm_of_the_table_has_its_rows(tmp_path, monkeypatch):
    """One entry of arms.yaml is enough: its models are compared with the default's, and with their baseline."""
    third = "  masked: {suffix: _masked, label: Masked, traces: train, baseline: direct, description: masked chains}\n"
    (tmp_path / "arms.yaml").write_text(Path("arms.yaml").read_text() + third)
    monkeypatch.chdir(tmp_path)
    with_arm = result([0.5, 1.0], direct=[0.0, 0.5])
    with_arm.scores["n3", "sft_masked"] = {"p0": 1.0, "p1": 1.0}
    found = build({("default", 1): with_arm}, seeds=(1,))
    figures = {figure.model: figure.pass_at_1 for figure in found.rows[0].figures}
    assert figures["sft_masked"] == 1.0
    worth = {arm.model: arm.difference.value for arm in found.rows[0].arms}
    assert worth["sft_masked"] == 0.75
