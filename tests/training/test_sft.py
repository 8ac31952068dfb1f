"""What SFT trains on: labels by segment, the length limit, and one short run for real."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from astro.process import UserError
from astro.tasks.chat import chat_template_of
from astro.tasks.countdown.wording import vocabulary
from astro.training.sft import IGNORED, build_dataset, encode, fine_tune
from astro.training.train_base import new_llama
from astro.training.wordlevel import add_unspellable, build_tokenizer
from schemas.records import Segment, Trace
from tests.tiny_chat import chat_tokenizer

DOUBT, BACK = "But wait. Hmm...", "Back to where we had"


@pytest.fixture(scope="module")
def tokenizer():
    made = build_tokenizer(vocabulary(60), 128)
    add_unspellable(made, [DOUBT, BACK])
    return made


def trace(*segments, number=0):
    """A trace of (kind, text) pieces."""
    backtracks = sum(kind == "return" for kind, _ in segments)
    return Trace(
        id=f"p/{number}",
        problem_id="p",
        kind="search" if backtracks else "direct",
        prompt="make 24 from 2 3 4\n",
        completion="".join(text for _, text in segments),
        backtracks=backtracks,
        segments=[Segment(text=text, kind=kind, node=None if kind == "reflection" else 1) for kind, text in segments],
        answer="2 * 3 * 4",
    )


STEP = "2 * 3 = 6 left 4 6\n"
WRONG = "6 + 4 = 10 make 24 got 10 no\n"
RETURN = f"{BACK}\nmake 24 from 2 3 4\n{STEP}"
END = "6 * 4 = 24 make 24 got 24 yes answer 2 * 3 * 4"
SEARCH = trace(("step", STEP), ("wrong_step", WRONG), ("reflection", f"{DOUBT}\n"), ("return", RETURN), ("step", END))
DIRECT = trace(("step", STEP), ("step", END))


def trained_on(tokenizer, row):
    """The text of the tokens that have a loss."""
    assert len(row["input_ids"]) == len(row["labels"])
    assert all(label in (IGNORED, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


PARTS = [
    # (what has a loss, its text)
    ("all", SEARCH.prompt + SEARCH.completion),
    ("completion", SEARCH.completion),
    # the wrong branch is masked, its line end too; the doubt, the return and what it restates are not
    ("no_wrong_steps", f"{STEP}{DOUBT}\n{RETURN}{END}"),
]


@pytest.mark.parametrize(("loss_on", "text"), PARTS)
def test_the_loss_is_on_the_parts_asked_for(tokenizer, loss_on, text):
    row = encode(SEARCH, tokenizer, loss_on)
    assert tokenizer.decode(row["input_ids"]) == f"{SEARCH.prompt}{SEARCH.completion} <eos>"
    assert trained_on(tokenizer, row) == f"{text} <eos>"


def test_the_end_token_is_learnt_always(tokenizer):
    for loss_on in ("all", "completion", "no_wrong_steps"):
        row = encode(DIRECT, tokenizer, loss_on)
        assert row["input_ids"][-1] == row["labels"][-1] == tokenizer.eos_token_id


def test_a_direct_trace_has_no_wrong_steps_to_mask(tokenizer):
    assert encode(DIRECT, tokenizer, "no_wrong_steps") == encode(DIRECT, tokenizer, "completion")


def test_every_wrong_branch_is_masked(tokenizer):
    twice = trace(
        ("wrong_step", "2 + 3 = 5 left 4 5\n"),
        ("wrong_step", "5 + 4 = 9 make 24 got 9 no\n"),
        ("return", "make 24 from 2 3 4\n"),
        ("step", STEP),
        ("wrong_step", WRONG),
        ("return", RETURN),
        ("step", END),
    )
    text = trained_on(tokenizer, encode(twice, tokenizer, "no_wrong_steps"))
    assert text == f"make 24 from 2 3 4\n{STEP}{RETURN}{END} <eos>"


def test_a_token_belongs_to_where_it_begins():
    """With subwords a token may hold the end of one piece and the start of the next: here a token per two characters."""

    class Pairs:
        eos_token_id = 0
        added_tokens_decoder, all_special_tokens = {}, ()

        def __call__(self, text, return_offsets_mapping):
            offsets = [(i, min(i + 2, len(text))) for i in range(0, len(text), 2)]
            return {"input_ids": [i + 1 for i in range(len(offsets))], "offset_mapping": offsets}

    odd = Trace(
        id="p/0",
        problem_id="p",
        kind="search",
        prompt="abc",
        completion="DEFghi",
        backtracks=1,
        segments=[
            Segment(text="DEF", kind="wrong_step", node=1),
            Segment(text="gh", kind="return", node=0),
            Segment(text="i", kind="step", node=2),
        ],
        answer="i",
    )
    #                                              ab       cD       EF       gh i  end
    assert encode(odd, Pairs(), "no_wrong_steps")["labels"] == [IGNORED, IGNORED, IGNORED, 4, 5, 0]
    assert encode(odd, Pairs(), "completion")["labels"] == [IGNORED, IGNORED, 3, 4, 5, 0]


# --- the length limit -------------------------------------------------------------------------------------------------


def test_a_longer_trace_is_dropped_and_counted_not_cut(tokenizer):
    length = len(encode(DIRECT, tokenizer, "all")["input_ids"])
    dataset, too_long = build_dataset([DIRECT, SEARCH], tokenizer, loss_on="all", max_length=length)
    assert [row["input_ids"] for row in dataset] == [encode(DIRECT, tokenizer, "all")["input_ids"]]
    assert too_long == 1


def test_nothing_left_is_an_error_that_says_what_would_fit(tokenizer):
    length = len(encode(DIRECT, tokenizer, "all")["input_ids"])
    with pytest.raises(ValueError, match=rf"sft\.max_length {length - 1}: all 2 traces.*shortest has {length} tokens"):
        build_dataset([DIRECT, SEARCH], tokenizer, loss_on="all", max_length=length - 1)


def test_no_traces_at_all_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="all 0 traces"):
        build_dataset([], tokenizer, loss_on="all", max_length=100)


# --- a short run ------------------------------------------------------------------------------------------------------

SETTINGS = {
    "batch_size": 2,
    "epochs": 15.0,
    "lr": 0.01,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_every": 10,
    "lora": {"enabled": False, "r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "quantize": "none"},
}


def run(tokenizer, work, *, new_tokens=False, tied=False, **changes):
    torch.manual_seed(0)
    model = new_llama(tokenizer, hidden=32, layers=2, heads=2, ffn=48, context=128)
    model.config.tie_word_embeddings = tied
    model = LlamaForCausalLM(model.config) if tied else model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    dataset, _ = build_dataset([DIRECT, SEARCH], tokenizer, loss_on="completion", max_length=120)
    rows = []
    trained, curve, steps = fine_tune(
        model,
        tokenizer,
        dataset,
        settings=SETTINGS | changes,
        seed=0,
        work=work,
        log=lambda row, step: rows.append((step, row)),
        new_tokens=new_tokens,
    )
    return before, trained, curve, steps, rows


LEARNT = [
    (False, 0.5),  # the whole model
    (True, 0.1),  # LoRA, merged at the end: embeddings and output layer stay random, so it learns less
]


@pytest.mark.parametrize(("lora", "at_least"), LEARNT)
def test_a_short_run_learns(tokenizer, tmp_path, lora, at_least):
    before, trained, curve, steps, rows = run(tokenizer, tmp_path, lora=SETTINGS["lora"] | {"enabled": lora})
    assert steps == 15
    assert [row["step"] for row in curve] == [step for step, _ in rows]
    assert curve[-1]["loss"] < curve[0]["loss"] - at_least
    after = dict(trained.named_parameters())
    assert set(after) == set(before)  # a plain Llama again
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert all(p.dtype == torch.float32 for p in after.values())


@pytest.mark.parametrize("tied", [False, True])
def test_the_curve_is_the_same_every_time_and_goes_on_after_a_kill(tokenizer, tmp_path, tied, caplog):
    """The second run finds the first one's checkpoint of step 10, as after a kill at step 14."""
    _, first, curve, _, _ = run(tokenizer, tmp_path / "work", tied=tied)
    _, again, same, _, _ = run(tokenizer, tmp_path / "other", tied=tied)
    assert [row["loss"] for row in same] == [row["loss"] for row in curve]
    for late in (tmp_path / "work").glob("checkpoint-*"):
        if late.name != "checkpoint-10":
            (late / "trainer_state.json").unlink()  # cut off while it was written
    _, resumed, rest, steps, rows = run(tokenizer, tmp_path / "work", tied=tied)
    assert "missing keys" not in caplog.text  # tied weights are in no checkpoint
    assert rows[0][0] > 10
    assert steps == 15
    assert [row["step"] for row in rest] == [row["step"] for row in curve]
    assert [row["loss"] for row in rest] == pytest.approx([row["loss"] for row in curve], abs=1e-4)
    for name, p in resumed.named_parameters():
        assert torch.allclose(p, dict(first.named_parameters())[name], atol=1e-5)
        assert torch.equal(dict(again.named_parameters())[name], dict(first.named_parameters())[name])


@pytest.mark.parametrize("changes", [{"lr": 1e30}, {"lr": 1e30, "save_every": 1}])
def test_a_training_that_is_not_finite_stops_and_keeps_good_checkpoints(tokenizer, tmp_path, changes):
    """It ended well, with a loss of 0.0 and a model of NaN."""
    with pytest.raises(UserError, match=r"sft: step \d+: .*(loss|grad_norm|not finite)") as stopped:
        run(tokenizer, tmp_path / "work", **changes)
    assert "sft.lr" in str(stopped.value)
    for file in (tmp_path / "work").glob("checkpoint-*/model.safetensors"):
        assert all(bool(torch.isfinite(weights).all()) for weights in load_file(file).values())


def test_a_run_goes_on_from_the_checkpoint_before_a_cut_one(tokenizer, tmp_path, capsys):
    run(tokenizer, tmp_path / "work", save_every=5)
    newest = tmp_path / "work/checkpoint-15/optimizer.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    *_, steps, rows = run(tokenizer, tmp_path / "work", save_every=5)
    assert "checkpoint-15 is damaged (optimizer.pt is cut)" in capsys.readouterr().out
    assert (steps, rows[0][0]) == (15, 11)


def test_lora_trains_the_embedding_of_a_token_that_was_just_added(tokenizer, tmp_path):
    lora = SETTINGS["lora"] | {"enabled": True}
    before, trained, *_ = run(tokenizer, tmp_path, lora=lora, new_tokens=True)
    after = dict(trained.named_parameters())
    assert set(after) == set(before)  # merged: a plain Llama again
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert not torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_a_chat_trace_begins_once_and_ends_with_the_turn(family):
    """The tokens are those of the template's own conversation: what the engine stops at is what ends a chain."""
    tokenizer = chat_tokenizer(family)
    chat = chat_template_of(tokenizer, source=family)
    answer = "Step 1: $1+1=3$.\n\nWait. <|eot_id|> is no end.\n\nStep 1: $1+1=2$."
    wrong, rest = answer[: answer.index("Wait")], answer[answer.index("Wait") :]
    trace = Trace(
        id="p/0",
        problem_id="p",
        kind="search",
        prompt=chat.render("What is 1+1?", system="Be brief."),
        completion=answer,
        backtracks=1,
        segments=[Segment(text=wrong, kind="wrong_step", node=1), Segment(text=rest, kind="step", node=2)],
        answer="2",
    )
    rows = {loss_on: encode(trace, tokenizer, loss_on) for loss_on in ("all", "completion", "no_wrong_steps")}
    turns = [("system", "Be brief."), ("user", "What is 1+1?"), ("assistant", answer.replace("<|eot", "< |eot"))]
    whole = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=True)["input_ids"]
    for row in rows.values():
        assert tokenizer.decode(row["input_ids"]).replace("<|eot_id|> is", "< |eot_id|> is") == tokenizer.decode(
            whole[: len(whole) - (family == "qwen")]
        )
        ends = [i for i, token in enumerate(row["input_ids"]) if token == tokenizer.eos_token_id]
        assert ends[-1] == len(row["input_ids"]) - 1
        assert len(ends) == 3  # system, user, assistant
    assert rows["all"]["labels"] == rows["all"]["input_ids"]
    said = {name: tokenizer.decode([t for t in row["labels"] if t != IGNORED]) for name, row in rows.items()}
    assert said["completion"] == answer + tokenizer.eos_token
    assert said["no_wrong_steps"] == rest + tokenizer.eos_token
