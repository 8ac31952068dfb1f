"""vLLM in the training process, on a CPU: it samples by the trainer's weights, after each step by the new ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
from pathlib import Path
from tests.training.grpo_world import run, tiny
from astro.training.common import load_causal_lm, save_model
work = Path(sys.argv[1])
model, tokenizer = tiny(hidden=64, ffn=96)  # heads of 32 are vLLM's smallest
model.config.tie_word_embeddings = sys.argv[2] == "tied"
model.tie_weights()
save_model(model, tokenizer, work / "model")  # vLLM reads its config from there
model, tokenizer = load_causal_lm(work / "model", name="model")
trainer, curve = run(work / "work", model=model, tokenizer=tokenizer, generation="vllm_colocate", steps=3, save_every=100)
lengths = [row["length"] for row in curve]
again = trainer.vllm_generation.generate(prompts=[[5, 6, 7]] * 2, images=None, num_generations=2)
tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
print("RESULT", json.dumps({"curve": curve, "again": again[1], "tied": tied}))
"""


@pytest.fixture(scope="module", params=["untied", "tied"])
def result(request, tmp_path_factory):
    """In a process of its own: where TRL has been told to spare vLLM, it has none."""
    work = tmp_path_factory.mktemp("colocated")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(work), request.param],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.split("RESULT", 1)[1])
    assert read["tied"] == (request.param == "tied")
    return {**read, "printed": done.stdout + done.stderr}


def test_vllm_follows_the_weights_that_are_trained(result):
    """`sampler_gap`: mean difference of the log-probabilities of sampled tokens, vLLM's against the trainer's.

    At lr 0.01 a step moves them by several tenths: with weights of the step before the gap would be of that size.
    """
    curve = result["curve"]
    assert [row["step"] for row in curve] == [1, 2, 3]
    assert all(row["sampler_gap"] < 1e-3 for row in curve)
    assert all(row["sampler_ratio"] == pytest.approx(1, abs=1e-2) for row in curve)


def test_it_trains(result):
    curve = result["curve"]
    assert any(abs(row["loss"]) > 1e-4 for row in curve)
    assert curve[0]["entropy"] != pytest.approx(curve[-1]["entropy"], abs=1e-3)


def test_the_console_shows_no_warning_that_a_user_can_do_nothing_about(result):
    lines = [line for line in result["printed"].splitlines() if line.strip() and not line.startswith("RESULT")]
    assert [line for line in lines if not line.startswith("[")] == []


def test_completions_of_one_prompt_differ_by_their_number(result):
    """The same seed for all of a group would leave nothing to compare."""
    assert result["again"][0] != result["again"][1]
