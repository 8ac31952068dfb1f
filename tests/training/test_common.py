"""Curves, their figures, checkpoints to go on from, and models that do not load."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from astro.process import UserError
from astro.training.common import (
    Curve,
    StopNotFinite,
    last_checkpoint,
    load_causal_lm,
    save_model,
    tail_mean,
    wants_bf16,
    write_curve,
)

ROWS = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0, "lr": 0.00012345678}]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_curve_is_a_csv_with_a_column_per_name(tmp_path):
    write_curve(tmp_path / "curves" / "sft.csv", ROWS)
    assert read(tmp_path / "curves" / "sft.csv") == [
        {"step": "10", "loss": "2", "lr": ""},  # nothing was logged for it then
        {"step": "20", "loss": "1", "lr": "0.000123457"},
    ]


def test_an_empty_curve_is_an_empty_table(tmp_path):
    write_curve(tmp_path / "c.csv", [])
    assert read(tmp_path / "c.csv") == []


def test_equal_curves_are_equal_bytes(tmp_path):
    write_curve(tmp_path / "a.csv", [{"step": 1, "loss": 0.1 + 0.2}])
    write_curve(tmp_path / "b.csv", [{"step": 1, "loss": 0.3}])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


LOSSES = [{"step": i, "loss": float(i)} for i in range(1, 21)]

MEANS = [
    # (rows, share, from the start, mean)
    (LOSSES, 0.1, False, 19.5),
    (LOSSES, 0.1, True, 1.5),
    (LOSSES, 1.0, False, 10.5),
    # at least one row
    (LOSSES, 0.001, False, 20.0),
    (LOSSES, 0.001, True, 1.0),
    # rows without the column do not count
    ([*LOSSES, {"step": 21, "lr": 0.1}], 0.001, False, 20.0),
    # rounded to six places
    ([{"loss": 1 / 3}], 0.5, False, 0.333333),
]


@pytest.mark.parametrize(("rows", "share", "first", "expected"), MEANS)
def test_mean_of_the_tail_or_head(rows, share, first, expected):
    assert tail_mean(rows, "loss", share, first=first) == expected


# --- what a trainer logs ----------------------------------------------------------------------------------------------


def state(step, steps):
    return SimpleNamespace(global_step=step, max_steps=steps)


def test_a_curve_takes_known_names_and_hands_them_on(capsys):
    got = []
    curve = Curve({"loss": "loss", "learning_rate": "lr"}, label="sft", log=lambda row, step: got.append((step, row)))
    curve.on_train_begin(None, state(0, 2), None)
    curve.on_log(None, state(1, 2), None, logs={"loss": 2, "epoch": 0.5})
    curve.on_log(None, state(2, 2), None, logs={"loss": 1.0, "learning_rate": 0.1})
    curve.on_log(None, state(2, 2), None, logs={"train_runtime": 9.0})  # the trainer's summary: no row
    assert got == [(1, {"loss": 2.0}), (2, {"loss": 1.0, "lr": 0.1})]
    assert "[sft] step 2/2" in capsys.readouterr().out


def test_the_rows_come_from_the_history_so_a_resumed_run_has_them_all():
    curve = Curve({"loss": "loss"}, label="sft", log=lambda row, step: None)
    history = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "epoch": 1.0}, {"step": 2, "train_runtime": 1.0}]
    assert curve.rows(history) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint(folder, step, state_text='{"global_step": 1}'):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"w": torch.ones(64)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"step": torch.ones(64)}, path / name)
    if state_text is not None:
        (path / "trainer_state.json").write_text(state_text)
    return path


def test_the_newest_checkpoint_is_found_by_number(tmp_path):
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


@pytest.mark.parametrize(
    "state_text",
    [None, "", json.dumps({"global_step": 30, "log_history": []})[:-5]],  # killed before, at, or while it was written
)
def test_a_checkpoint_cut_by_a_kill_is_set_aside(tmp_path, state_text):
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 20, state_text)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(p.name.split("-")[0] for p in tmp_path.iterdir()) == ["broken", "checkpoint"]
    checkpoint(tmp_path, 20, state_text)  # the run goes on, and is killed there again
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("how", ["cut", "empty", "gone"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_with_a_cut_file_is_set_aside_and_said(tmp_path, capsys, name, how):
    """The state was written, and the file lost its end afterwards: a full disk, a copy that was broken off."""
    checkpoint(tmp_path, 10)
    file = checkpoint(tmp_path, 20) / name
    whole = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes(whole[: len(whole) // 2] if how == "cut" else b"")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    said = capsys.readouterr().out
    assert "checkpoint-20 is damaged" in said
    assert name in said or "weights" in said


def test_no_checkpoint_is_none(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "nowhere") is None
    checkpoint(tmp_path, 5, None)
    assert last_checkpoint(tmp_path) is None  # broken ones only


# --- models -----------------------------------------------------------------------------------------------------------


def test_what_is_no_model_is_refused_by_parameter_and_path(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"base\.pretrained\.path: transformers cannot load the model \S+empty: "):
        load_causal_lm(tmp_path / "empty", name="base.pretrained.path")


def test_a_model_without_weights_is_refused(tmp_path):
    from astro.tasks.countdown.wording import vocabulary
    from astro.training.wordlevel import build_tokenizer

    build_tokenizer(vocabulary(20), 64).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"models/sft: transformers cannot load the model"):
        load_causal_lm(tmp_path, name="models/sft")


def test_a_saved_model_is_loaded(tmp_path):
    from tests.inference.tiny import save_tiny_model

    model, tokenizer = load_causal_lm(save_tiny_model(tmp_path), name="models/base")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert not model.config.tie_word_embeddings


BF16 = [
    # (parameter, the processor multiplies bfloat16, trained in it)
    ("auto", True, True),
    ("auto", False, False),
    (False, True, False),
    (True, True, True),
    (True, False, True),  # as told, and with a warning
]


@pytest.mark.parametrize(("setting", "native", "expected"), BF16)
def test_bf16_where_it_pays(setting, native, expected, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert wants_bf16(setting) is expected
    assert ("emulates" in capsys.readouterr().out) == (setting is True and not native)


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ({"loss": float("nan")}, "step 3: loss is nan"),
        ({"loss": 0.0, "grad_norm": float("nan")}, "step 3: grad_norm is nan"),  # how the trainer's filter shows it
        ({"loss": 1.0, "grad_norm": float("inf")}, "step 3: grad_norm is inf"),
    ],
)
def test_a_step_that_is_not_finite_stops_training(logs, said):
    with pytest.raises(UserError, match=said):
        StopNotFinite("sft", "sft.lr").on_log(None, SimpleNamespace(global_step=3, max_steps=9), None, logs=logs)


def test_weights_that_are_not_finite_are_not_published(tmp_path):
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="weight has weights that are not finite"):
        save_model(model, None, tmp_path / "model")
    assert not any(tmp_path.iterdir())
