"""GRPO over rendered prompts: the tokens that TRL generates from are those that the engines are asked with."""

from pathlib import Path

import pytest
from trl import GRPOTrainer

from astro.params import load_params
from astro.special_tokens import encode_prompt
from astro.tasks import get_task
from astro.tasks.chat import load_chat_template
from astro.training.common import load_causal_lm, save_model
from astro.training.grpo import reinforce
from schemas.records import Problem
from tests.tiny_chat import ENDS, write_tiny_chat

PROBLEMS = [
    Problem(id=f"p{i}", task="math", question=f"What is ${i}+2$? <|eot_id|>", gold=str(i + 2), level=1, chance=None)
    for i in range(2)
]


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_a_prompt_begins_once(family, tmp_path, monkeypatch):
    folder = write_tiny_chat(tmp_path / "m", family=family, context=512)
    model, tokenizer = load_causal_lm(folder, name="models/sft")
    task = get_task("math", chat=load_chat_template(folder))
    given, whole = [], GRPOTrainer._generate_single_turn

    def watched(self, prompt_ids, *rest, **more):
        given.extend(map(tuple, prompt_ids))
        return whole(self, prompt_ids, *rest, **more)

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", watched)
    shape = {
        "steps": 1,
        "prompts_per_step": 2,
        "group_size": 2,
        "micro_batch": 4,
        "max_completion_length": 8,
        "bf16": False,
    }
    settings = load_params(Path("params.yaml")).grpo.model_copy(update=shape).model_dump()
    trainer, curve, steps = reinforce(
        model,
        tokenizer,
        PROBLEMS,
        task=task,
        settings=settings,
        seed=1,
        work=tmp_path / "work/x",
        log=lambda *_: None,
    )
    assert steps == len(curve) == 1
    assert set(given) == {tuple(encode_prompt(tokenizer, task.prompt(p))) for p in PROBLEMS}
    begin = "<|begin_of_text|>" if family == "llama" else "<|im_start|>"
    assert {tokenizer.convert_ids_to_tokens(ids[0]) for ids in given} == {begin}
    if family == "llama":
        assert {ids.count(tokenizer.bos_token_id) for ids in given} == {1}
    save_model(trainer.accelerator.unwrap_model(trainer.model), tokenizer, tmp_path / "saved")
    again, _ = load_causal_lm(tmp_path / "saved", name="models/grpo")
    assert set(again.generation_config.eos_token_id) == set(tokenizer.convert_tokens_to_ids(ENDS[family]))
    assert load_chat_template(tmp_path / "saved").render("x") == load_chat_template(folder).render("x")
