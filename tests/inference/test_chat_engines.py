"""Engines on chat models: prompts begin once, every end token ends, and what a model writes steers nothing."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astro.inference.engine import EngineError, Request
from astro.inference.hf_engine import HfEngine
from astro.special_tokens import encode_prompt
from astro.tasks import get_task
from astro.tasks.chat import load_chat_template
from schemas.records import Problem
from tests.tiny_chat import END, ENDS, write_tiny_chat

PROBLEM = Problem(id="p", task="math", question="What is $12+7$?", gold="19", level=1, chance=None)
CONTEXT = 512


@pytest.fixture(scope="module", params=["llama", "qwen"])
def chat(request, tmp_path_factory):
    """(family, folder, engine, rendered prompt)"""
    family = request.param
    folder = write_tiny_chat(tmp_path_factory.mktemp("chat") / family, family=family, context=CONTEXT, sharpness=4.0)
    engine = HfEngine(folder, batch_size=32, dtype="float32", max_model_len=CONTEXT)
    yield family, folder, engine, get_task("math", chat=load_chat_template(folder)).prompt(PROBLEM)
    engine.close()


def request(prompt, **changes):
    values = {"n": 1, "max_tokens": 24, "temperature": 1.0, "stop": (), "seed": 0, "logprobs": False}
    return Request(prompt=prompt, **(values | changes))


def ask(engine, *requests):
    tickets = {engine.submit(r): i for i, r in enumerate(requests)}
    answers = {}
    while len(answers) < len(tickets):
        answers |= {tickets[ticket]: samples for ticket, samples in engine.poll()}
    return [answers[i] for i in range(len(requests))]


def test_greedy_text_is_that_of_the_template_and_the_bare_model(chat):
    """Against apply_chat_template and an argmax loop: no second beginning, no penalty or top-p of the model's own config."""
    family, folder, engine, prompt = chat
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ends = set(tokenizer.convert_tokens_to_ids(ENDS[family]))
    new: list[int] = []
    with torch.inference_mode():
        while len(new) < 24 and not ends & set(new):
            new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
    ((sample,),) = ask(engine, request(prompt, temperature=0.0))
    assert sample.text == tokenizer.decode(new, skip_special_tokens=True)
    assert sample.tokens == len(new)
    assert sample.ended == sample.finished == bool(ends & set(new))


def test_every_end_token_of_the_generation_config_ends(chat):
    """Of many draws some end with each of them; none of them is in the text, and all are ends of turns."""
    family, folder, engine, prompt = chat
    ended = [s for s in ask(engine, request(prompt, n=16, max_tokens=120))[0] if s.ended]
    assert len(ended) > 2
    assert all(s.finished for s in ended)
    assert not any(end in s.text for s in ended for end in ENDS[family])
    model_ends = AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id
    assert engine._ends == set(model_ends)
    assert END[family] in AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(sorted(engine._ends))


def test_a_stop_string_does_not_end_the_turn(chat):
    *_, engine, prompt = chat
    drawn = ask(engine, request(prompt, n=12, max_tokens=30))[0]
    letter = max("etaoin", key=lambda c: sum(c in s.text for s in drawn))
    stopped = ask(engine, request(prompt, n=12, max_tokens=30, stop=(letter,)))[0]
    cut = [s for s, whole in zip(stopped, drawn, strict=True) if letter in whole.text]
    assert len(cut) > 3
    assert all(s.finished and not s.ended and letter not in s.text for s in cut)


def test_a_context_that_is_too_short_is_refused(chat):
    _, folder, *_ = chat
    with pytest.raises(EngineError, match=f"engine.max_model_len {CONTEXT + 1}.*context of {CONTEXT} tokens"):
        HfEngine(folder, batch_size=1, dtype="float32", max_model_len=CONTEXT + 1)


def test_a_control_token_that_a_model_spells_out_is_text(chat):
    """The samples of an engine can be put behind a prompt again."""
    family, _, engine, prompt = chat
    spelt = engine._tokenizer(END[family], add_special_tokens=False, split_special_tokens=True)["input_ids"]
    sample = engine._sample(spelt, [], [])
    assert sample.text.replace(" ", "") == END[family]
    assert not sample.ended
    again = encode_prompt(engine._tokenizer, prompt + sample.text)
    asked = encode_prompt(engine._tokenizer, prompt)
    end = engine._tokenizer.convert_tokens_to_ids(END[family])
    assert again.count(end) == asked.count(end)


def shown(answers):
    """What two engines must agree on; a character of which a cut text has only the first bytes, one of them leaves out."""
    return [(s.text.rstrip("\ufffd"), s.tokens, s.finished, s.ended) for answer in answers for s in answer]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is an extra: cpu or gpu")
def test_vllm_writes_what_transformers_does(chat):
    """Greedy texts are equal, and so is what ends them: of each end token, a stop string, and the length."""
    from astro.inference.vllm_engine import VllmEngine

    family, folder, engine, prompt = chat
    if family == "qwen":
        pytest.skip("one start of vLLM is enough")
    options = {"block_size": 32, "kv_cache_gb": 1.0, "gpu_memory_utilization": 0.3, "tensor_parallel_size": 1}
    vllm = VllmEngine(folder, concurrency=32, max_model_len=CONTEXT, dtype="float32", enforce_eager=True, **options)
    try:
        greedy = [request(f"{prompt}{word}", temperature=0.0, max_tokens=24) for word in ("", "Step 1", "What", "\n\n")]
        assert shown(ask(vllm, *greedy)) == shown(ask(engine, *greedy))
        drawn = ask(vllm, request(prompt, n=16, max_tokens=120))[0]
        ends = [s for s in drawn if s.ended]
        assert len(ends) > 2
        assert all(s.finished and "<|" not in s.text for s in ends)
        assert all(s.tokens == 120 for s in drawn if not s.finished)
        letter = max("etaoin", key=lambda c: sum(c in s.text for s in drawn))
        stopped = ask(vllm, request(prompt, n=16, max_tokens=120, stop=(letter,)))[0]
        assert sum(s.finished and not s.ended for s in stopped) > 2
        spelt = engine._tokenizer(END[family], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        output = SimpleNamespace(text=END[family], token_ids=spelt, finish_reason="length", stop_reason=None)
        output.cumulative_logprob = 0.0
        assert vllm._sample(output).text == "< |eot_id|>"
    finally:
        vllm.close()
