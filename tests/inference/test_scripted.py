"""The scripted engine keeps the contract of every engine."""

import math

import pytest

from astro.inference.engine import EngineError, Request
from tests.scripted_engine import END, ScriptedEngine

TABLE = {
    "p": {"a": 0.75, "b": 0.25},
    "pa": {"\n": 1.0},
    "pb": {"b": 0.5, END: 0.5},
    "pbb": {"x\ny": 1.0},  # the stop string stands inside a token
}


def ask(*, n=1, max_tokens=9, temperature=1.0, stop=("\n",), seed=0, logprobs=True, order_seed=None):
    engine = ScriptedEngine(TABLE.__getitem__, order_seed=order_seed)
    ticket = engine.submit(Request("p", n, max_tokens, temperature, stop, seed, logprobs))
    ((answered, samples),) = engine.poll()
    assert answered == ticket
    return samples


# every text the table allows: text -> (probability of all its tokens, stop included; tokens)
OUTCOMES = {"a": (0.75, 2), "b": (0.125, 2), "bbx": (0.125, 3)}


def test_samples_are_what_the_table_says():
    samples = ask(n=2000)
    assert {s.text: (pytest.approx(math.exp(s.logprob)), s.tokens) for s in samples} == OUTCOMES
    assert all(s.finished for s in samples)
    for text, (probability, _) in OUTCOMES.items():
        share = sum(s.text == text for s in samples) / len(samples)
        assert share == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / 2000))


def test_a_cut_sample_is_not_finished():
    (sample,) = ask(max_tokens=1)
    assert not sample.finished
    assert (sample.text in "ab", sample.tokens) == (True, 1)


def test_sample_i_has_seed_plus_i():
    assert ask(n=20, seed=5) == [ask(seed=5 + i)[0] for i in range(20)]


def test_temperature_sharpens_and_0_is_greedy():
    assert {s.text for s in ask(n=50, temperature=0)} == {"a"}
    assert {s.text for s in ask(n=50, temperature=0.01)} == {"a"}
    assert ask(temperature=0)[0].logprob == pytest.approx(math.log(0.75))  # of the model, not of the sharpened one


def test_without_logprobs_they_are_zero():
    assert {s.logprob for s in ask(n=5, logprobs=False)} == {0.0}


def test_order_is_shuffled_and_nothing_is_lost_or_answered_twice():
    engine = ScriptedEngine(TABLE.__getitem__, order_seed=1)
    tickets = [engine.submit(Request("p", 1, 9, 1.0, ("\n",), i, True)) for i in range(30)]
    answered = []
    while len(answered) < 30:
        answered += [ticket for ticket, _ in engine.poll()]
    assert answered != tickets
    assert sorted(answered) == tickets
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()
