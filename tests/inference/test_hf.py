"""HfEngine on a tiny random Llama: what an answer depends on, what it holds, and what ends it."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astro.inference.engine import EngineError, Request
from astro.inference.hf_engine import HfEngine
from tests.inference.tiny import CONTEXT, LONG_PROMPT, PROMPT, frequent_words, save_tiny_model

OTHER = "make 7 from 2 9\n9 - 2 = 7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder):
    opened = HfEngine(folder, batch_size=16, dtype="float32", max_model_len=CONTEXT)
    yield opened
    opened.close()


def request(**changes):
    values = {
        "prompt": PROMPT,
        "n": 1,
        "max_tokens": 12,
        "temperature": 1.0,
        "stop": (),
        "seed": 0,
        "logprobs": True,
    }
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


MIXED = [
    # prompts of different lengths (padding), seeds, temperatures, limits and stops, all outstanding at once
    request(n=3),
    request(prompt=OTHER, n=2, seed=7),
    request(prompt=LONG_PROMPT, n=2, seed=3),
    request(temperature=0.3, seed=11, n=2),
    request(temperature=0.0, prompt=OTHER),
    request(max_tokens=3, seed=5, n=2),
    request(stop=("\n",), n=4, seed=9),
    request(logprobs=False, n=2, seed=13),
    request(prompt=LONG_PROMPT, max_tokens=90, seed=4),  # the context leaves less room than it asks for
    request(max_tokens=90, seed=6),
]


def test_a_sample_does_not_depend_on_the_batch(folder, engine):
    """A request alone, one sequence per batch, and all of them in batches of sixteen."""
    together = ask(engine, *MIXED)
    alone = [ask(engine, one)[0] for one in MIXED]
    single = HfEngine(folder, batch_size=1, dtype="float32", max_model_len=CONTEXT)
    one_by_one = ask(single, *MIXED)
    single.close()
    for i in range(len(MIXED)):
        assert alike(together[i], alone[i]), i
        assert alike(together[i], one_by_one[i]), i


def test_an_answer_holds_n_samples_and_sample_i_has_seed_plus_i(engine):
    (samples,) = ask(engine, request(n=6, seed=40))
    singles = [s for answer in ask(engine, *(request(seed=40 + i) for i in range(6))) for s in answer]
    assert alike(samples, singles)
    assert len({s.text for s in samples}) > 3  # they differ


def test_logprobs_of_the_batch_are_those_asked_for(engine):
    quiet, loud = ask(engine, request(logprobs=False, n=2), request(n=2))
    assert [s.logprob for s in quiet] == [0.0, 0.0]
    assert all(s.logprob < 0 for s in loud)
    loud, quiet = ask(engine, request(n=2), request(logprobs=False, n=2))
    assert [s.logprob for s in quiet] == [0.0, 0.0]
    assert all(s.logprob < 0 for s in loud)


@pytest.fixture(scope="module")
def direct(folder):
    """Log-probabilities by a plain forward pass: (prompt, ids) -> of each id."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def logprobs(prompt, ids):
        given = tokenizer(prompt)["input_ids"]
        logits = model(torch.tensor([given + ids])).logits[0, len(given) - 1 : -1].float()
        return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]

    logprobs.tokenizer, logprobs.model = tokenizer, model
    return logprobs


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])  # the model's own probability, whatever the temperature
def test_logprob_is_that_of_a_plain_forward_pass(engine, direct, temperature):
    """Of samples cut by the limit: their tokens are all in the text."""
    wanted = [
        request(n=1, seed=i, max_tokens=4, temperature=temperature, prompt=p)
        for i in range(40)
        for p in (PROMPT, OTHER)
    ]
    checked = 0
    for one, (sample,) in zip(wanted, ask(engine, *wanted), strict=True):
        ids = direct.tokenizer(sample.text)["input_ids"]
        if sample.finished or len(ids) != sample.tokens:  # special tokens are not part of the text
            continue
        assert sample.logprob == pytest.approx(float(direct(one.prompt, ids).sum()), abs=1e-3)
        checked += 1
    assert checked >= 5


def test_temperature_0_takes_the_likeliest_token(engine, direct):
    (first,), (second,) = ask(engine, request(temperature=0.0, seed=1), request(temperature=0.0, seed=2))
    assert (first.text, first.tokens, first.finished) == (second.text, second.tokens, second.finished)
    assert first.logprob == pytest.approx(second.logprob, abs=1e-4)  # rows of a batch round differently
    ids = direct.tokenizer(PROMPT)["input_ids"]
    with torch.inference_mode():
        for _ in range(12):
            ids.append(int(direct.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == direct.tokenizer.eos_token_id:
                break
    new = ids[len(direct.tokenizer(PROMPT)["input_ids"]) :]
    assert first.text == direct.tokenizer.decode(new, skip_special_tokens=True)
    assert first.tokens == len(new)


def test_samples_are_drawn_with_the_probabilities_of_the_model(engine, direct):
    """The first token of 1500 samples against the exact distribution."""
    ids = list(range(len(direct.tokenizer)))
    with torch.inference_mode():
        prompt = torch.tensor([direct.tokenizer(PROMPT)["input_ids"]])
        probabilities = direct.model(prompt).logits[0, -1].float().softmax(-1).tolist()
    (samples,) = ask(engine, request(n=1500, max_tokens=1))
    texts = [direct.tokenizer.decode([i], skip_special_tokens=True) for i in ids]
    for text in set(texts):
        p = sum(probabilities[i] for i in ids if texts[i] == text)
        share = sum(s.text == text for s in samples) / 1500
        assert share == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / 1500) + 1e-3)


@pytest.fixture(scope="module")
def free(engine):
    """Forty samples that nothing stops, and the words that come up in them, the most frequent first."""
    (samples,) = ask(engine, request(n=40, max_tokens=40))
    return samples, frequent_words([s.text for s in samples])


STOPS = [
    lambda words: (words[0],),  # a word that is a token
    lambda words: (words[2], words[1]),  # one of two
    lambda words: (words[0][1:] or words[0], f"{words[1]} "),  # the end of a word, or a word and a space
    lambda words: ("\n", words[0]),
]


@pytest.mark.parametrize("stops", STOPS)
def test_a_stop_string_ends_a_sample_and_is_not_part_of_it(engine, free, stops):
    whole_samples, words = free
    stop = stops(words)
    (samples,) = ask(engine, request(n=40, max_tokens=40, stop=stop))
    met = 0
    for cut, whole in zip(samples, whole_samples, strict=True):
        ends = [whole.text.find(s) for s in stop if s in whole.text]
        assert cut.text == (whole.text[: min(ends)] if ends else whole.text)
        assert cut.finished or cut.tokens == 40
        if ends:
            met += 1
            assert cut.finished
            assert cut.tokens <= whole.tokens
    assert met > 3


def test_a_stop_token_counts_in_tokens_and_logprob(engine, direct, free):
    whole_samples, words = free
    (samples,) = ask(engine, request(n=40, max_tokens=40, stop=(words[0],)))
    checked = 0
    for cut, whole in zip(samples, whole_samples, strict=True):
        ids = direct.tokenizer(f"{cut.text} {words[0]}")["input_ids"]
        if words[0] in whole.text and len(ids) == cut.tokens:  # no special token among them
            assert cut.logprob == pytest.approx(float(direct(PROMPT, ids).sum()), abs=1e-3)
            checked += 1
    assert checked


def test_a_sample_cut_by_the_limit_is_not_finished(engine):
    (samples,) = ask(engine, request(n=20, max_tokens=2))
    assert {s.tokens for s in samples} <= {1, 2}
    assert all(s.finished == (s.tokens < 2) for s in samples if s.tokens < 2)
    assert any(not s.finished for s in samples)


def test_a_prompt_without_room_is_answered_empty_and_harms_nobody(engine, direct):
    too_long = "3 " * (CONTEXT + 5)
    full, (fine,) = ask(engine, request(prompt=too_long, n=3), request(seed=2))
    assert [(s.text, s.tokens, s.finished) for s in full] == [("", 0, False)] * 3
    assert alike([fine], ask(engine, request(seed=2))[0])
    length = len(direct.tokenizer(LONG_PROMPT)["input_ids"])
    (last,) = ask(engine, request(prompt=LONG_PROMPT, max_tokens=500, n=20))
    assert max(s.tokens for s in last) == CONTEXT - length  # what fits, and no more


def test_the_queue_is_closed_with_the_engine(folder):
    engine = HfEngine(folder, batch_size=4, dtype="float32", max_model_len=CONTEXT)
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()
    engine.submit(request())
    engine.close()
    engine.close()  # twice is harmless
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()  # what was outstanding is dropped
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request())


def test_what_is_no_model_is_refused_by_name(tmp_path):
    with pytest.raises(EngineError, match=r"transformers cannot load the model .*empty"):
        HfEngine(tmp_path / "empty", batch_size=1, dtype="float32", max_model_len=CONTEXT)
