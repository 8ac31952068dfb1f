"""VllmEngine on the tiny random Llama: the contract of every engine, and the same probabilities as transformers."""

import importlib.util
import json
import math
import random

import pytest

from astro.inference.engine import EngineError, Request
from tests.inference.tiny import CONTEXT, LONG_PROMPT, PROMPT, frequent_words, save_tiny_model

pytestmark = [
    pytest.mark.slow,
    # looked for, not imported: the import takes 15 s, and collecting tests must not
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is an extra: cpu or gpu"),
]

OPTIONS = {
    "concurrency": 64,
    "max_model_len": CONTEXT,
    "dtype": "float32",
    "block_size": 32,
    "kv_cache_gb": 1.0,
    "gpu_memory_utilization": 0.3,
    "tensor_parallel_size": 1,
    "enforce_eager": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder):
    from astro.inference.vllm_engine import VllmEngine

    opened = VllmEngine(folder, **OPTIONS)
    yield opened
    opened.close()


def request(**changes):
    values = {"prompt": PROMPT, "n": 1, "max_tokens": 12, "temperature": 1.0, "stop": (), "seed": 0, "logprobs": True}
    return Request(**(values | changes))


def ask(engine, *requests):
    """The samples of each request, all outstanding at once."""
    tickets = [engine.submit(r) for r in requests]
    answers = {}
    while len(answers) < len(tickets):
        for ticket, samples in engine.poll():
            assert ticket not in answers
            answers[ticket] = samples
    return [answers[t] for t in tickets]


def alike(one, other):
    """Equal but for the last digits of the log-probability, which the shape of a batch may touch."""
    return [(s.text, s.tokens, s.finished) for s in one] == [(s.text, s.tokens, s.finished) for s in other] and all(
        a.logprob == pytest.approx(b.logprob, abs=1e-3) for a, b in zip(one, other, strict=True)
    )


PROMPTS = (PROMPT, LONG_PROMPT, "make 7 from 2 9\n9 - 2 = 7", "make 5 from 2 3\n")
MIXED = [
    request(prompt=PROMPTS[i % 4], n=1 + i % 3, seed=100 * i, max_tokens=3 + i, stop=("\n",) if i % 2 else ())
    for i in range(24)
]


def test_a_sample_does_not_depend_on_what_else_is_in_flight(engine):
    alone = [ask(engine, one)[0] for one in MIXED]
    assert len({s.text for answer in alone for s in answer}) > 20
    for order_seed in range(3):
        order = random.Random(order_seed).sample(range(len(MIXED)), len(MIXED))
        for i, samples in zip(order, ask(engine, *(MIXED[i] for i in order)), strict=True):
            assert alike(samples, alone[i]), i


def test_a_request_that_joins_a_running_batch_changes_nothing(engine):
    expected = [ask(engine, one)[0] for one in MIXED[:6]]
    tickets = [engine.submit(one) for one in MIXED[:3]]
    answers = dict(engine.poll())  # the others are still running
    tickets += [engine.submit(one) for one in MIXED[3:6]]
    while len(answers) < 6:
        answers |= dict(engine.poll())
    assert all(alike(answers[t], e) for t, e in zip(tickets, expected, strict=True))


def test_sample_i_has_seed_plus_i(engine):
    (samples,) = ask(engine, request(n=6, seed=40))
    assert alike(samples, [s for answer in ask(engine, *(request(seed=40 + i) for i in range(6))) for s in answer])
    assert len({s.text for s in samples}) > 3


def test_a_large_seed_is_taken(engine):
    """The search hashes seeds to 62 bits."""
    first, second = ask(engine, request(seed=2**62 - 5), request(seed=2**62 - 4))
    assert [s.text for s in first] != [s.text for s in second]


@pytest.fixture(scope="module")
def hf(folder):
    from astro.inference.hf_engine import HfEngine

    opened = HfEngine(folder, batch_size=16, dtype="float32", max_model_len=CONTEXT)
    yield opened
    opened.close()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_samples_and_their_logprobs_are_those_of_transformers(engine, hf, prompt):
    one = request(prompt=prompt, temperature=0.0)
    (ours,), (theirs,) = ask(engine, one), ask(hf, one)
    assert alike(ours, theirs)
    assert ours[0].logprob < -0.1  # not trivially equal
    step = request(prompt=prompt, temperature=0.0, max_tokens=1)
    (ours,), (theirs,) = ask(engine, step), ask(hf, step)
    assert ours[0].logprob == pytest.approx(theirs[0].logprob, abs=1e-3)


def test_greedy_samples_of_one_request_are_equal(engine):
    (samples,) = ask(engine, request(temperature=0.0, n=3))
    assert len(samples) == 3
    assert len(set(samples)) == 1


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_both_engines_draw_from_one_distribution(engine, hf, temperature):
    """First tokens of 600 samples of each; the log-probability is the model's own, at temperature 1."""
    one = request(n=600, max_tokens=1, temperature=temperature)
    (ours,), (theirs,) = ask(engine, one), ask(hf, one)
    texts = {s.text for s in ours} | {s.text for s in theirs}
    for text in texts:
        a, b = (sum(s.text == text for s in samples) / 600 for samples in (ours, theirs))
        mean = (a + b) / 2
        assert abs(a - b) <= 4.5 * math.sqrt(2 * mean * (1 - mean) / 600) + 1e-9, text
    known = {s.text: s.logprob for s in theirs}
    assert all(s.logprob == pytest.approx(known[s.text], abs=1e-3) for s in ours if s.text in known and s.text)


STOPS = [
    lambda words: (words[0],),  # a word that is a token: vLLM stops at its id
    lambda words: (words[2], words[1]),  # one of two
    lambda words: (words[0], f"{words[1]} {words[2]}"),  # two words: vLLM decodes and looks at the text
]


@pytest.mark.parametrize("stops", STOPS)
def test_a_stop_string_ends_a_sample_and_is_not_part_of_it(engine, stops):
    (free,) = ask(engine, request(n=40, max_tokens=40))
    stop = stops(frequent_words([s.text for s in free]))
    (samples,) = ask(engine, request(n=40, max_tokens=40, stop=stop))
    met = 0
    for cut, whole in zip(samples, free, strict=True):
        ends = [whole.text.find(s) for s in stop if s in whole.text]
        expected = whole.text[: min(ends)] if ends else whole.text
        assert cut.text.rstrip() == expected.rstrip()  # the space before the stop stays or goes
        assert cut.finished or cut.tokens == 40
        met += bool(ends)
    assert met > 3


def test_without_logprobs_they_are_zero(engine):
    assert [s.logprob for s in ask(engine, request(n=2, logprobs=False))[0]] == [0.0, 0.0]


def test_a_prompt_without_room_is_answered_empty_and_harms_nobody(engine):
    full, (fine,) = ask(engine, request(prompt="3 " * (CONTEXT + 5), n=3), request(seed=2))
    assert [(s.text, s.tokens, s.finished) for s in full] == [("", 0, False)] * 3
    assert alike([fine], ask(engine, request(seed=2))[0])
    (last,) = ask(engine, request(prompt=LONG_PROMPT, max_tokens=500, n=20))
    assert max(s.tokens for s in last) == CONTEXT - len(engine._tokenizer.encode(LONG_PROMPT))


def test_nothing_is_outstanding(engine):
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()


def test_close_then_open_again_in_one_process(folder, tmp_path):
    """The eval stage opens three models, one after the other; the second must not answer for the first."""
    from astro.inference.vllm_engine import VllmEngine

    one = request(temperature=0.0, max_tokens=20)
    answers = []
    for path in (folder, save_tiny_model(tmp_path / "other", seed=1), folder):
        opened = VllmEngine(path, **OPTIONS)
        answers.append(ask(opened, one)[0])
        opened.submit(one)  # dropped
        opened.close()
        opened.close()
        with pytest.raises(EngineError, match="nothing is outstanding"):
            opened.poll()
        with pytest.raises(EngineError, match="closed"):
            opened.submit(one)
    assert answers[0] == answers[2] != answers[1]


def test_a_failure_inside_vllm_is_an_engine_error(tmp_path):
    """Attention on CPU has no kernel for heads 16 wide, and finds out with the first prompt."""
    import torch

    from astro.inference.vllm_engine import VllmEngine

    if torch.cuda.is_available():
        pytest.skip("GPUs have such kernels")
    engine = VllmEngine(save_tiny_model(tmp_path / "narrow", heads=4), **OPTIONS)
    engine.submit(request())
    for _ in range(2):  # it does not recover, and does not hang
        with pytest.raises(EngineError, match=r"vLLM failed: .*attention"):
            engine.poll()
    with pytest.raises(EngineError, match="vLLM failed"):
        engine.submit(request())
    engine.close()


def test_what_is_no_model_is_refused_by_name(tmp_path):
    from astro.inference.vllm_engine import VllmEngine

    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match=r"vLLM cannot load the model .*empty"):
        VllmEngine(tmp_path / "empty", **OPTIONS)


def test_two_processes_answer_as_one_and_take_other_weights(folder, tmp_path):
    """Engines of its own: one process holds one at a time, and the tests above have closed what the fixture opened."""
    from functools import partial

    from astro.inference.process_pool import PoolEngine, end_idle
    from astro.inference.vllm_engine import VllmEngine

    other = save_tiny_model(tmp_path / "other", seed=1)
    wider = save_tiny_model(tmp_path / "wider", heads=1)
    tied = save_tiny_model(tmp_path / "tied")
    config = json.loads((tied / "config.json").read_text())
    for model in (folder, other, tied):  # the three differ in nothing else
        (model / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": model == tied}))
    alone = VllmEngine(folder, **OPTIONS)
    expected = ask(alone, *MIXED)
    assert alone.load(other)
    others = ask(alone, *MIXED)
    assert not alone.load(wider)
    assert not alone.load(tied)
    assert ask(alone, *MIXED) == others
    alone.close()
    assert not any(alike(x, y) for x, y in zip(expected, others, strict=True))
    pool = PoolEngine(partial(VllmEngine, other, **OPTIONS), 2)
    try:
        for ours, theirs in zip(ask(pool, *MIXED), others, strict=True):
            assert alike(ours, theirs)  # loaded into a running engine, the weights are as those of a new one
        assert pool.load(folder)
        assert not pool.load(wider)
        for ours, theirs in zip(ask(pool, *MIXED), expected, strict=True):
            assert alike(ours, theirs)
    finally:
        pool.close()
        end_idle()
