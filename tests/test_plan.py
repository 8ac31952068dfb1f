"""The planner: counts that follow from the params, speeds from rates.yaml, and what it says of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from astro import plan, rates
from astro.params import load_params
from astro.preflight.model_shape import shape_of
from astro.process import UserError
from tests.preflight.world import params_of
from tests.tiny_chat import write_tiny_chat

WHOLE = {"expansions": 1.0, "actions": 1.0, "open": 1.0, "step_tokens": 10, "rollout_tokens": 100}
WHOLE |= {"solution_tokens": 50, "chain_tokens": 200, "node_bytes": 100, "rollout_bytes": 50, "valid": 0.5}


def params(**changes):
    loaded = load_params()
    return loaded.model_copy(update={"mcts": loaded.mcts.model_copy(update=changes)})


def pretrained(path):
    return params_of("llama-3.1-8b", f"base: {{pretrained: {{path: '{path}', adapter: ''}}}}")


def given(*argv, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plan", *argv])
    return plan.arguments()


def test_the_most_that_a_tree_can_cost():
    """k = 8, M = 16, 32 iterations: 32 expansions of 8 steps, 256 children with 16 rollouts each."""
    requests, tokens, size = plan.search_cost(
        params(num_actions=8, rollouts_per_child=16, num_simulations=32, rollout_tokens=4096), WHOLE
    )
    assert requests == 32 * (1 + 8)
    assert tokens == 32 * 8 * 10 + 32 * 8 * 16 * 100
    assert size == 256 * 100 + 256 * 16 * 50


def test_limits_of_the_params_bound_the_lengths():
    _, tokens, _ = plan.search_cost(
        params(num_actions=1, rollouts_per_child=1, num_simulations=1, step_tokens=4, rollout_tokens=7), WHOLE
    )
    assert tokens == 4 + 7


def test_best_of_n_is_one_request():
    assert plan.search_cost(params(method="best_of_n", samples=21), WHOLE)[:2] == (1, 21 * 50)


def test_the_plan_of_the_default_is_near_what_was_measured():
    """docs/log.md, seed 1, of the default when it had 12 iterations: 24,438 requests, 1,217,199 tokens, 1,800 trees."""
    found = rates.load_rates(
        rates.RATES, device="core", parameters=0.87e6, task="countdown", generation="hf", rate=None
    )
    requests, tokens, size = plan.search_cost(params(num_simulations=12), found.shape)
    assert 1800 * requests == pytest.approx(24_438, rel=0.1)
    assert 1800 * tokens == pytest.approx(1_217_199, rel=0.1)
    assert 1800 * size == pytest.approx(8_568_809, rel=0.25)


def test_a_rate_is_scaled_by_size_and_says_where_it_is_from():
    entries = [{"device": "core", "parameters": 1e6, "tokens_per_s": 1000, "source": "measured"}]
    assert rates.nearest(entries, "core", 1e6) == (1000, "measured")
    assert rates.nearest(entries, "core", 4e6) == (250, "measured, scaled by size")
    with pytest.raises(UserError, match=r"no rate for device 'TPU'; available: \['core'\]"):
        rates.nearest(entries, "TPU", 1e6)
    with pytest.raises(UserError, match=r"no rate for generation 'vllm_server'; available: \['hf'\]"):
        rates.closest([{"generation": "hf", "parameters": 1e6}], "generation", "vllm_server", 1e6)


def test_the_papers_budget(monkeypatch):
    found = plan.make(given("paper", monkeypatch=monkeypatch))
    mcts = next(line for line in found.lines if line.stage == "mcts")
    assert found.parameters == 70_553_706_496
    assert any("at most 288" in note and "36,100 traces" in note for note in found.notes)
    assert any("assumed" in note for note in found.notes)
    assert 20_700 * 100 < mcts.requests < 20_700 * 288
    assert mcts.unit_hours == pytest.approx(mcts.generated / 3600 / (700 * 70.6e9 / found.parameters))
    assert max(line.memory_gb for line in found.lines) == pytest.approx(16 * found.parameters / 2**30)


def test_a_folder_is_counted_by_its_config_and_not_by_its_name(tmp_path):
    folder = write_tiny_chat(tmp_path / "Mine-7B", shards=1)
    shape = shape_of(str(folder))
    assert plan.parameters_of(pretrained(folder)) == shape.parameters < 1e7
    assert plan.parameters_of(pretrained(folder.rename(tmp_path / "mine"))) == shape.parameters


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("acme/nobody-knows", "is not a folder, and its name does not contain the model's size; give --parameters"),
        ("FOLDER", "config.json: not a model config"),  # its name does not help
    ],
)
def test_a_model_of_unknown_size_is_refused(path, said, tmp_path):
    (tmp_path / "Model-7B").mkdir()
    with pytest.raises(UserError, match=said):
        plan.parameters_of(pretrained(path.replace("FOLDER", str(tmp_path / "Model-7B"))))


def test_a_rate_of_ones_own_counts(monkeypatch):
    slow, fast = (plan.make(given("paper", "--rate", r, monkeypatch=monkeypatch)) for r in ("100", "1000"))
    assert slow.lines[0].unit_hours == pytest.approx(10 * fast.lines[0].unit_hours)
    assert "given by --rate" in fast.notes[0]


@pytest.mark.parametrize("profile", [p.stem for p in Path("profiles").glob("*.yaml")])
def test_every_profile_has_a_plan(profile, monkeypatch):
    text = plan.table(plan.make(given(profile, monkeypatch=monkeypatch)))
    assert f"Profile {profile}" in text
    assert "\ntotal " in text


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (0, 3, "0"),
        (0.05612, 3, "0.0561"),
        (29.94, 3, "29.9"),
        (999.7, 3, "1,000"),
        (1052, 3, "1,052"),
        (24094.2, 4, "24,094"),
    ],
)
def test_a_large_amount_has_no_exponent(value, digits, said):
    assert plan.amount(value, digits) == said


FAULTS = [
    (["nonsense"], "unknown profile 'nonsense'"),
    (["paper", "--units", "0"], "--units must be above 0"),
    (["paper", "--device", "abacus"], "no rate for device 'abacus'"),
]


@pytest.mark.parametrize(("argv", "said"), FAULTS)
def test_what_cannot_be_planned_is_told(argv, said):
    done = subprocess.run([sys.executable, "-m", "astro.plan", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_more_answers_of_the_baseline_are_counted():
    def tokens(**changes):
        loaded = load_params()
        changed = loaded.model_copy(update={"eval": loaded.eval.model_copy(update=changes)})
        found = rates.load_rates(
            rates.RATES, device="core", parameters=0.87e6, task="countdown", generation="hf", rate=None
        )
        lines = plan.plan(changed, found, trees=10, traces=10, rl_problems=10)
        return next(line.generated for line in lines if line.stage == "eval"), found.shape["solution_tokens"]

    (auto, solution), (more, _) = tokens(), tokens(baseline_samples=12)
    problems, models, further = 500 + 300 + 100, 3, 12 - 8
    assert more - auto == pytest.approx(problems * models * further * solution)


def test_rl_samples_at_the_rate_of_its_generator_and_validation_is_counted():
    def direct_arm(**changes):
        loaded = load_params()
        changed = loaded.model_copy(update={"grpo": loaded.grpo.model_copy(update=changes)})
        found = rates.load_rates(
            rates.RATES,
            device="core",
            parameters=0.87e6,
            task="countdown",
            generation=changed.grpo.generation,
            rate=None,
        )
        lines = plan.plan(changed, found, trees=10, traces=10, rl_problems=10)
        return next(line for line in lines if line.stage == "grpo_direct")

    hf, vllm = direct_arm(), direct_arm(generation="vllm_colocate")
    assert hf.generated == vllm.generated
    assert hf.unit_hours > vllm.unit_hours
    validation = load_params().grpo.validation
    unwatched = direct_arm(validation=validation.model_copy(update={"problems": 0}))
    assert (load_params().grpo.steps, validation.every) == (26, 5)
    measurements = 7  # steps 0, 5, ..., 25, and 26, the last
    per_completion = unwatched.trained / (load_params().grpo.steps * 16 * 8)
    assert hf.generated - unwatched.generated == pytest.approx(measurements * 128 * per_completion)
