"""Validation during RL: what is measured, which checkpoint is kept, when it stops; and that training does not notice."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from astro.tasks.countdown.task import Countdown
from astro.training import grpo_job
from astro.training.common import save_model
from astro.training.mid_chain_starts import Episode
from astro.training.rl_validation import best_step, points_of, should_stop
from schemas.compute_profile import Compute
from tests.training.grpo_world import PROBLEMS, SETTINGS, EvenSum, run, tiny


def history(*scores):
    """A log history: (step, score of each problem)."""
    figures = {"pass_at_1": 0.0, "length": 1.0, "mean_backtracks": 0.0, "truncated": 0.0}
    return [{"step": step, "validation": {"figures": figures, "scores": list(values)}} for step, values in scores]


EVEN = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
MORE = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
ALL, NONE = [1.0] * 8, [0.0] * 8

# measured, margin -> the step that is published
BEST = [
    # nothing was measured
    ([], 1.0, None),
    # the highest, wherever it stands; step 0 is the SFT model
    ([(0, NONE), (5, ALL), (10, EVEN)], 0.0, 5),
    ([(0, ALL), (5, NONE), (10, EVEN)], 0.0, 0),
    # equal ones: the longer training
    ([(0, EVEN), (5, EVEN), (10, NONE)], 0.0, 5),
    # one problem of eight is no clear lead: a mean of 1/8 with a standard error of 1/8
    ([(0, NONE), (5, MORE), (10, EVEN)], 0.0, 5),
    ([(0, NONE), (5, MORE), (10, EVEN)], 1.0, 10),
    ([(0, NONE), (5, MORE), (10, EVEN)], 0.9, 5),
    # a clear lead is one with any margin
    ([(0, EVEN), (5, ALL), (10, NONE)], 3.0, 5),
    # what is within the margin of the best counts, not of its neighbour
    ([(0, ALL), (5, ALL), (10, NONE), (15, MORE)], 1.0, 5),
]


@pytest.mark.parametrize(("measured", "margin", "step"), BEST)
def test_the_step_that_is_published(measured, margin, step):
    assert best_step(history(*measured), margin) == step


def test_a_third_of_samples_does_not_break_a_tie():
    third = [1 / 3 + 1 / 3 + 1 / 3, 0.0], [0.0, 1.0]
    assert best_step(history((0, third[0]), (5, third[1])), 0.0) == 5


# measured, patience -> whether training ends
STOPS = [
    ([(0, ALL), (5, NONE), (10, NONE)], 0, False),  # never
    ([(0, ALL), (5, NONE)], 2, False),
    ([(0, ALL), (5, NONE), (10, NONE)], 2, True),
    ([(0, NONE), (5, EVEN), (10, ALL)], 1, False),  # it gets better
    ([(0, EVEN), (5, EVEN), (10, EVEN)], 1, False),  # no worse is no reason to stop
    ([], 1, False),
]


@pytest.mark.parametrize(("measured", "patience", "expected"), STOPS)
def test_when_training_stops(measured, patience, expected):
    assert should_stop(history(*measured), margin=0.0, patience=patience) is expected


# --- real trainings ---------------------------------------------------------------------------------------------------

VALIDATION = {"problems": 4, "every": 2, "samples": 1, "margin": 0.0, "patience": 0}


class Worse(Countdown):
    """A task in which the SFT model is right, and each trained one is wrong: training can only hurt."""

    def __init__(self, rights):
        super().__init__()
        self.rights, self.asked = iter(rights), 0

    def grade_many(self, problems, texts):
        held_out = problems[0].id in {p.id for p in PROBLEMS[8:]}
        if held_out:
            right = next(self.rights)
            return [("x", "correct" if right else "wrong") for _ in texts]
        return EvenSum().grade_many(problems, texts)


@pytest.mark.parametrize("seeded", [True, False])
def test_training_does_not_notice_that_it_is_validated(tmp_path, seeded):
    """With keep last the model is, bit for bit, that of a run without validation."""
    plain, curve = run(tmp_path / "plain", seeded=seeded, problems=PROBLEMS[:8])
    watched, measured = run(
        tmp_path / "watched", seeded=seeded, problems=PROBLEMS[:8], held_out=PROBLEMS[8:], validation=VALIDATION
    )
    without = [{k: v for k, v in row.items() if not k.startswith("validation_")} for row in measured]
    assert without == curve
    for name, weights in plain.model.state_dict().items():
        assert torch.equal(weights, watched.model.state_dict()[name]), name
    assert [p.step for p in points_of(watched.state.log_history)] == [0, 2, 4]
    assert [row["step"] for row in measured if "validation_pass_at_1" in row] == [2, 4]


def test_the_measurement_does_not_depend_on_the_passes_and_changes_with_the_model(tmp_path):
    found = []
    for name, changes in (("one", {}), ("many", {"prompts_per_step": 1, "steps": 2})):
        validation = VALIDATION | {"samples": 2}
        trainer, _ = run(tmp_path / name, held_out=PROBLEMS[3:], rollouts_mb=1.0, validation=validation, **changes)
        found.append(points_of(trainer.state.log_history))
        found.append((tmp_path / name / "rollouts" / "validation-000000.jsonl.gz").read_bytes())
    assert found[0][0] == found[2][0]  # 18 completions in passes of 16, and of 4
    assert found[1] == found[3]
    assert len({point.model_dump_json(exclude={"step"}) for point in found[0]}) > 1


def work_of(tmp_path, **changes):
    """What a job is given: a random model, eight problems to train on, four to validate on."""
    model, tokenizer = tiny()
    save_model(model, tokenizer, tmp_path / "models" / "sft")
    work = tmp_path / "work" / "grpo" / "key"
    work.mkdir(parents=True)
    episodes = [Episode(problem=p, prefix="") for p in PROBLEMS[:8]]
    (work / "episodes.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in episodes))
    (work / grpo_job.HELD_OUT).write_text("".join(p.model_dump_json() + "\n" for p in PROBLEMS[8:]))
    return {
        "name": "grpo",
        "model": str(tmp_path / "models" / "sft"),
        "target": str(tmp_path / "models" / "grpo"),
        "task": "countdown",
        "prompt": "plain",
        "answers": "box",
        "phrases": "phrases/countdown.yaml",
        "seed": 1,
        "settings": SETTINGS | {"dtype": "float32", "keep": "best", "validation": VALIDATION, "steps": 6} | changes,
        "needed": 0,
        "rollouts_mb": 1.0,
        "work": str(work),
    }


def published(given, rights, monkeypatch):
    """(what the job returns, the weights it publishes) where validation finds `rights`, one after the other."""
    monkeypatch.setattr(grpo_job, "get_task", lambda *_: Worse(rights))
    result = grpo_job.train_job(given, Compute(), lambda row, step: None)
    if result["trained"]:
        grpo_job.publish(given, grpo_job.Path(result["trained"]))
    return result, load_file(f"{given['target']}/model.safetensors")


@pytest.mark.parametrize(
    ("rights", "step"), [([0, 1, 0, 0], 2), ([1, 0, 0, 0], 0), ([0, 0, 0, 1], 6), ([0, 1, 1, 0], 4)]
)
def test_the_best_checkpoint_is_published(tmp_path, monkeypatch, rights, step):
    """Also where later checkpoints would have pushed it out: at most the best and two more stay."""
    given = work_of(tmp_path)
    result, weights = published(given, rights, monkeypatch)
    assert result["published_step"] == step
    assert [point["step"] for point in result["points"]] == [0, 2, 4, 6]
    folder = given["model"] if step == 0 else f"{given['work']}/checkpoint-{step}"
    expected = load_file(f"{folder}/model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_last_is_published_where_it_is_asked_for(tmp_path, monkeypatch):
    given = work_of(tmp_path, keep="last")
    result, weights = published(given, [1, 0, 0, 0], monkeypatch)
    assert (result["published_step"], result["steps"]) == (6, 6)
    expected = load_file(f"{given['work']}/checkpoint-6/model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_it_stops_early_and_a_kill_before_the_model_is_published_trains_no_further(tmp_path, monkeypatch):
    given = work_of(tmp_path, validation=VALIDATION | {"patience": 2}, steps=20)
    result, weights = published(given, [0, 1, 0, 0], monkeypatch)
    assert (result["published_step"], result["steps"]) == (2, 6)
    shutil.rmtree(given["target"])
    state = json.loads((grpo_job.Path(given["work"]) / "checkpoint-6/trainer_state.json").read_bytes())
    assert [entry["step"] for entry in state["log_history"] if "validation" in entry] == [0, 2, 4, 6]
    again, same = published(given, [], monkeypatch)  # nothing is measured again
    assert {k: v for k, v in again.items() if k != "trained"} == {k: v for k, v in result.items() if k != "trained"}
    assert all(torch.equal(same[name], value) for name, value in weights.items())


def test_an_adapters_best_checkpoint_is_merged(tmp_path, monkeypatch):
    lora = SETTINGS["lora"] | {"enabled": True}
    given = work_of(tmp_path, lora=lora)
    result, weights = published(given, [0, 1, 0, 0], monkeypatch)
    assert result["published_step"] == 2
    before = load_file(f"{given['model']}/model.safetensors")
    assert weights.keys() == before.keys()
    assert any(not torch.equal(weights[name], value) for name, value in before.items())
