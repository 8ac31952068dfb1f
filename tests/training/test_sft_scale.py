"""SFT spread over processes and passes, packed, sharded into adapters: the same steps and the same loss, however it is done."""

import json
import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from astro.files import write_jsonl
from astro.process import UserError
from astro.training import sft
from astro.training.launch import launch
from astro.training.lora import check_adapter, check_quantize, merge
from astro.training.packing import PackedRows, fit, pack
from astro.training.safetensors_io import count, in_dtype, shapes
from astro.training.step_sampler import IGNORED, NOTHING, Rows, Steps
from schemas.compute_profile import Compute
from schemas.records import Segment, Trace
from tests.tiny_chat import write_tiny_chat
from tests.training import jobs

LORA = {"enabled": False, "r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "quantize": "none"}
SETTINGS = {
    "batch_size": 4,
    "epochs": 2.0,
    "lr": 0.003,
    "warmup": 0.0,
    "weight_decay": 0.01,
    "max_length": 96,
    "loss_on": "completion",
    "packing": False,
    "dtype": "float32",
    "bf16": False,
    "gradient_checkpointing": False,
    "save_every": 4,
    "lora": LORA,
}


def trace(number):
    rng = random.Random(number)
    prompt = f"<|begin_of_text|>What is ${rng.randint(1, 99)}+{rng.randint(1, 99)}$?"
    steps = ["We add the numbers step by step." for _ in range(rng.randint(1, 4))]
    text = "\n\n".join([*steps, f"The answer is $\\boxed{{{rng.randint(1, 99)}}}$."])
    segment = Segment(text=text, kind="step", node=1)
    return Trace(
        id=f"p{number}/0", problem_id=f"p{number}", kind="direct", prompt=prompt, completion=text, backtracks=0,
        segments=[segment], answer="1",
    )  # fmt: skip


TRACES = [trace(i) for i in range(23)]
"""23 by four: six steps to an epoch, the last of three, which two processes cannot share equally."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_chat(tmp_path_factory.mktemp("base") / "tiny-llama", hidden=32, ffn=48, context=128)


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "train.jsonl"
    write_jsonl(path, TRACES)
    return path


@pytest.fixture(scope="module")
def encoded(base):
    dataset, too_long = sft.build_dataset(TRACES, AutoTokenizer.from_pretrained(base), loss_on="all", max_length=96)
    assert too_long == 0
    return dataset.to_list()


def order(base, traces, work, **changes):
    """What a stage gives the job; `work` is a new folder."""
    work.mkdir()
    return {
        "name": "sft", "model": str(base), "traces": str(traces), "target": str(work / "model"), "work": str(work),
        "phrases": ["But wait."], "settings": SETTINGS | changes, "seed": 1,
    }  # fmt: skip


def losses(done):
    return [row["loss"] for row in done["curve"]]


@pytest.fixture(scope="module")
def alone(base, traces, tmp_path_factory):
    """One process that takes each step in one pass: what all others are compared with."""
    given = order(base, traces, tmp_path_factory.mktemp("alone") / "work")
    return given, sft.train_job(given, Compute(), lambda row, step: None)


# --- the same steps ---------------------------------------------------------------------------------------------------


LENGTHS = list(range(20, 43))


def steps_of(epoch, *, world, micro, lengths=LENGTHS, batch=4):
    """Per step of an epoch, the rows of all ranks."""
    ranks = []
    for rank in range(world):
        sampler = Steps(lengths, batch=batch, micro=micro, seed=1, rank=rank, world=world)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
    assert len({len(batches) for batches in ranks}) == 1  # one that made more passes would wait for ever
    assert max(len(part) for batches in ranks for part in batches) <= micro
    flat = [[row for batches in ranks for row in batches[i]] for i in range(len(ranks[0]))]
    passes = -(-batch // (world * micro))
    merged = [[row for part in flat[i : i + passes] for row in part] for i in range(0, len(flat), passes)]
    return [sorted(row for row in step if row != NOTHING) for step in merged]


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (1, 2), (2, 2), (2, 1), (4, 1)])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_a_step_holds_the_same_rows_however_it_is_spread(world, micro, epoch):
    whole = steps_of(epoch, world=1, micro=4)
    assert steps_of(epoch, world=world, micro=micro) == whole
    assert sorted(row for step in whole for row in step) == list(
        range(23)
    )  # each once: none is repeated to fill the last step
    assert [len(step) for step in whole] == [4, 4, 4, 4, 4, 3]


def test_epochs_differ_and_seeds_too():
    assert steps_of(0, world=1, micro=4) != steps_of(1, world=1, micro=4)
    other = Steps(range(20, 43), batch=4, micro=4, seed=2)
    assert list(other) != list(Steps(range(20, 43), batch=4, micro=4, seed=1))


def test_rows_of_a_step_are_of_like_length():
    rng = random.Random(0)
    lengths = [rng.randint(10, 1000) for _ in range(400)]
    spread = [
        max(rows) - min(rows)
        for batch in Steps(lengths, batch=8, micro=8, seed=1)
        if (rows := [lengths[i] for i in batch])
    ]
    assert sum(spread) / len(spread) < 250  # of 990; by chance it would be about 770


def test_a_process_without_a_row_takes_one_without_loss():
    rows = Rows([{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}])
    assert rows[0]["labels"] == [5, 6, 7]
    assert rows[NOTHING] == {"input_ids": [5, 6], "labels": [IGNORED, IGNORED]}


def test_the_steps_are_those_of_the_trainers_own_sampler(base, traces, alone, tmp_path):
    """So what one process computes is what it computed before the order was ours."""
    from transformers import PrinterCallback
    from trl import SFTTrainer

    given = order(base, traces, tmp_path / "work")
    arguments = sft.trainer_arguments(given["settings"], seed=1, work=tmp_path / "work", compute=Compute())
    arguments.train_sampling_strategy = "group_by_length"
    model, tokenizer, _ = sft.load_base(given)
    dataset, _ = sft.build_dataset(TRACES, tokenizer, loss_on="completion", max_length=96)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] == losses(alone[1])


def test_a_step_in_several_passes_gives_the_same_curve(base, traces, alone, tmp_path):
    given = order(base, traces, tmp_path / "work")
    done = sft.train_job(given, Compute(micro_batch={"sft": 1}), lambda row, step: None)
    assert losses(done) == pytest.approx(losses(alone[1]), abs=1e-5)
    assert len(losses(done)) == 12


@pytest.mark.slow
def test_two_processes_killed_and_gone_on_with_give_the_curve_of_one(base, traces, alone, tmp_path):
    """The second rank is killed in the second epoch, after the checkpoint of step 8; the other goes with it."""
    two = Compute(device="cpu", processes=2, strategy="ddp", micro_batch={"sft": 1})
    given, work = order(base, traces, tmp_path / "work") | {"dies_at": 9}, tmp_path / "work"
    with pytest.raises(SystemExit) as ended:
        launch(jobs.dies_at_step, given, compute=two, work=work, log=lambda row, step: None)
    assert ended.value.code == 128 + 9
    assert not (tmp_path / "work" / "model").exists()
    assert sorted(p.name for p in work.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    assert all((work / "checkpoint-8" / f"rng_state_{rank}.pth").is_file() for rank in (0, 1))

    seen = []
    done = launch(
        jobs.dies_at_step, given | {"dies_at": -1}, compute=two, work=work, log=lambda row, step: seen.append(step)
    )
    assert seen == [9, 10, 11, 12]  # it went on
    assert losses(done) == pytest.approx(losses(alone[1]), abs=1e-4)
    assert [row["lr"] for row in done["curve"]] == pytest.approx([row["lr"] for row in alone[1]["curve"]])
    assert (done["steps"], done["examples"], done["tokens"]) == tuple(
        alone[1][k] for k in ("steps", "examples", "tokens")
    )
    one, both = (AutoModelForCausalLM.from_pretrained(folder) for folder in (alone[0]["target"], given["target"]))
    for (name, a), b in zip(one.named_parameters(), both.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name


def test_an_interrupted_later_epoch_goes_on_with_its_own_steps(base, traces, alone, tmp_path):
    import shutil

    given = order(base, traces, tmp_path / "work")
    shutil.copytree(Path(alone[0]["work"]) / "checkpoint-8", tmp_path / "work" / "checkpoint-8")
    done = sft.train_job(given, Compute(), lambda row, step: None)
    assert losses(done) == losses(alone[1])


# --- what is trained --------------------------------------------------------------------------------------------------


def test_a_subword_vocabulary_does_not_grow(base, alone):
    """It spells every phrase; only the word-level one of the embedded world takes them in."""
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (base, alone[0]["target"]))
    assert len(after) == len(before)
    assert shapes(Path(alone[0]["target"])) == shapes(base)


@pytest.mark.parametrize(("micro", "checkpointing"), [(0, False), (1, True)])
def test_packed_rows_give_the_loss_of_single_ones(base, encoded, tmp_path, micro, checkpointing):
    """Every trace in each step, so that the steps hold the same tokens; four steps, so that the gradients are the same too."""

    def curve(rows, name, **changes):
        model, tokenizer, _ = sft.load_base({"model": str(base), "settings": SETTINGS, "phrases": []})
        settings = SETTINGS | {"batch_size": len(rows), "epochs": 4.0} | changes
        compute = Compute(micro_batch={"sft": micro if name == "packed" else 0})
        work = tmp_path / name
        _, curve, _ = sft.fine_tune(
            model, tokenizer, Dataset.from_list(rows), settings=settings, seed=1, work=work, compute=compute,
            log=lambda row, step: None,
        )  # fmt: skip
        return [row["loss"] for row in curve]

    rows = pack(encoded, 96, seed=1)
    assert len(rows) < len(encoded)
    single = curve(encoded, "single")
    packed = curve(rows, "packed", gradient_checkpointing=checkpointing)
    assert packed == pytest.approx(single, abs=1e-5)
    if not micro:  # and it is the positions that keep them apart
        leaking = [row | {"position_ids": list(range(len(row["input_ids"])))} for row in rows]
        assert curve(leaking, "leaking")[-1] != pytest.approx(single[-1], abs=0.01)


def test_rows_are_filled_best_fit_decreasing():
    assert fit([5, 9, 3, 2, 6], 10, seed=0) == [[1], [4, 2], [0, 3]]  # 9; 6 and 3, for 5 left too little room; 5 and 2
    rng = random.Random(0)
    lengths = [rng.randint(1, 100) for _ in range(2000)]
    rows = fit(lengths, 128, seed=1)
    assert sorted(i for row in rows for i in row) == list(range(2000))
    assert all(sum(lengths[i] for i in row) <= 128 for row in rows)
    assert sum(lengths) / (len(rows) * 128) > 0.97
    assert rows != fit(lengths, 128, seed=2)


def test_a_packed_row_has_the_loss_of_its_traces_and_nothing_sees_its_padding():
    examples = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}, {"input_ids": [4, 5], "labels": [IGNORED, 5]}]
    (row,) = pack(examples, 6, seed=0)
    assert row == {"input_ids": [1, 2, 3, 4, 5], "labels": [IGNORED, 2, 3, IGNORED, 5], "position_ids": [0, 1, 2, 0, 1]}
    batch = PackedRows(pad_token_id=9)([row, {"input_ids": [1] * 7, "labels": [1] * 7, "position_ids": list(range(7))}])
    assert batch["input_ids"][0].tolist() == [1, 2, 3, 4, 5, 9, 9]
    assert batch["labels"][0].tolist()[5:] == [IGNORED, IGNORED]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 1, 0, 1]  # a sequence of its own


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory):
    """An adapter with weights that matter, as PEFT saves it; its model."""
    from peft import get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    model = get_peft_model(model, sft.lora_config(LORA | {"enabled": True}, new_tokens=False))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    model.save_pretrained(folder)
    return folder, model


TOKENS = torch.arange(24).reshape(2, 12)


def logits(model):
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def test_a_merged_model_is_the_adapted_one(base, adapted):
    folder, model = adapted
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = logits(plain)
    merged = merge(plain, folder, name="x")
    assert torch.allclose(logits(merged), logits(model), atol=1e-4)
    assert not torch.allclose(logits(merged), before, atol=0.1)
    assert type(merged).__name__ == "LlamaForCausalLM"


def test_what_is_merged_keeps_the_precision_of_the_base(base, adapted):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    merged = merge(model, adapted[0], name="x")
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_is_published_as_a_plain_model_of_the_dtype_asked_for(base, traces, tmp_path, dtype):
    given = order(base, traces, tmp_path / "work", dtype=dtype, lora=LORA | {"enabled": True}, epochs=1.0, lr=0.02)
    done = sft.train_job(given, Compute(), lambda row, step: None)
    assert done["published"]
    assert losses(done)[-1] < losses(done)[0]
    assert shapes(Path(given["target"])) == shapes(base)
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(given["target"]).parameters()} == {
        getattr(torch, dtype)
    }


def test_an_adapter_left_by_a_sharded_training_is_merged_into_the_base(base, traces, adapted, tmp_path):
    import shutil

    given = order(base, traces, tmp_path / "work", lora=LORA | {"enabled": True})
    shutil.copytree(adapted[0], tmp_path / "work" / "trained")
    sft.publish(given)
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(given["target"])), logits(adapted[1]), atol=1e-4)


def test_whole_weights_left_by_a_sharded_training_are_cast(base, traces, tmp_path):
    given = order(base, traces, tmp_path / "work", dtype="bfloat16")
    model, tokenizer, _ = sft.load_base(given | {"settings": SETTINGS})
    model.save_pretrained(tmp_path / "work" / "trained", max_shard_size="60KB")
    tokenizer.save_pretrained(tmp_path / "work" / "trained")
    sft.publish(given)
    target = Path(given["target"])
    published = AutoModelForCausalLM.from_pretrained(target)
    assert published.dtype == torch.bfloat16
    assert torch.equal(published.lm_head.weight, model.lm_head.weight.to(torch.bfloat16))
    size = json.loads((target / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    assert size == 2 * count(target)
    in_dtype(target, torch.bfloat16)  # nothing left to do
    assert count(target) == count(base)


WRONG_ADAPTERS = [
    # (change of its settings, another base, what is said)
    ({"base_model_name_or_path": "a/Llama-3.1-70B"}, {}, r"was made for a/Llama-3\.1-70B, not for .*tiny-llama"),
    ({}, {"hidden": 64}, r"is for 32 (inputs|outputs) of model\.layers\.0\.\S+, but \S+ has 64"),
    ({}, {"ffn": 96}, r"is for 48 (inputs|outputs) of model\.layers\.0\.mlp\.\S+, but \S+ has 96"),
    ({}, {"layers": 1}, r"changes model\.layers\.1\.\S+, which \S+ does not have"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "shape", "said"), WRONG_ADAPTERS)
def test_an_adapter_for_another_base_is_refused(base, adapted, tmp_path, change, shape, said):
    import shutil

    folder, other = tmp_path / "adapter", base
    shutil.copytree(adapted[0], folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if shape:
        other = write_tiny_chat(tmp_path / "tiny-llama", **({"hidden": 32, "ffn": 48, "context": 128} | shape))
    with pytest.raises(UserError, match=r"base\.pretrained\.adapter: .*" + said):
        check_adapter(folder, other, base_name=str(other), name="base.pretrained.adapter")


def test_an_adapter_for_this_base_passes_and_what_is_none_does_not(base, adapted, tmp_path):
    check_adapter(adapted[0], base, base_name=str(base), name="base.pretrained.adapter")
    with pytest.raises(UserError, match=r"base\.pretrained\.adapter: .* is not a PEFT adapter"):
        check_adapter(tmp_path, base, base_name=str(base), name="base.pretrained.adapter")


QUANTIZE = [
    # (profile, GPUs, what is said)
    ({"device": "cpu"}, 0, "needs a GPU"),
    ({"strategy": "fsdp2", "processes": 2, "accelerate": "a"}, 2, "not possible with strategy fsdp2"),
    ({}, 1, "needs the package bitsandbytes"),
]


@pytest.mark.parametrize(("profile", "gpus", "said"), QUANTIZE)
def test_four_bits_are_refused_where_they_cannot_be_had(profile, gpus, said, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"sft\.lora\.quantize nf4: .*{said}"):
        check_quantize("nf4", Compute.model_validate(profile), gpus)
    check_quantize("none", Compute.model_validate(profile), gpus)
