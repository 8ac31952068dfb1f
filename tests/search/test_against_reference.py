"""The search equals a plain recursive one, at every iteration, over many toy worlds and settings."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astro.search import SearchConfig, search
from tests.scripted_engine import ScriptedEngine, answer
from tests.search.reference import Reference
from tests.search.world import World, judged

TOLERANCE = 1e-9

worlds = st.builds(
    World,
    seed=st.integers(0, 10**6),
    goal=st.integers(1, 7),
    blank=st.sampled_from([0.0, 0.1, 1.5]),
    ramble=st.sampled_from([0.0, 0.1, 1.5]),
    answer=st.sampled_from([0.05, 0.2, 1.0]),
    headroom=st.integers(0, 3),
)
configs = st.builds(
    SearchConfig,
    num_actions=st.integers(1, 8),
    rollouts_per_child=st.integers(1, 5),
    num_simulations=st.integers(1, 30),
    max_depth=st.integers(1, 8),
    c_puct=st.sampled_from([0.0, 0.3, 1.0, 4.0]),
    prior=st.sampled_from(["sequence", "token", "uniform"]),
)


def observed(world: World, config: SearchConfig, seed: int):
    """Runs the product's search. Returns the tree and, per iteration, the selected path and every node's figures."""
    history = []

    def observer(_, path, nodes):
        figures = {n.steps: (n.visits, n.q, n.reward, n.prior, n.terminal, n.verdict) for n in nodes[1:]}
        history.append((nodes[path[-1]].steps, (nodes[0].visits, nodes[0].q), figures))

    one = search(
        world.problem,
        config=config,
        seed=seed,
        is_terminal=world.is_terminal,
        key=world.key,
        observer=observer,
    )
    one = judged(one, world.judge)
    answers = None
    try:
        while True:
            answers = [answer(world.next_tokens, world.request("", wanted)) for wanted in one.send(answers)]
    except StopIteration as stop:
        return stop.value, history


def reference(world: World, config: SearchConfig, seed: int) -> Reference:
    return Reference(
        ask=lambda wanted: answer(world.next_tokens, world.request("", wanted)),
        problem_id=world.problem.id,
        seed=seed,
        k=config.num_actions,
        rollouts=config.rollouts_per_child,
        max_depth=config.max_depth,
        c_puct=config.c_puct,
        prior=config.prior,
        is_terminal=world.is_terminal,
        judge=world.judge,
        key=world.key,
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(world=worlds, config=configs, seed=st.integers(0, 2**31 - 1))
def test_every_iteration_agrees(world, config, seed):
    tree, history = observed(world, config, seed)
    plain = reference(world, config, seed)
    for selected, (root_visits, root_q), figures in history:
        assert plain.iterate() == selected
        assert root_visits == plain.root.N
        assert root_q == pytest.approx(plain.root.Q, abs=TOLERANCE)
        assert list(figures) == [s.steps for s in plain.born]  # the same nodes, born in the same order
        for s in plain.born:
            visits, q, reward, prior, terminal, verdict = figures[s.steps]
            assert (visits, terminal, verdict) == (s.N, s.ended, s.verdict)
            assert (q, reward, prior) == pytest.approx((s.Q, s.R, s.P), abs=TOLERANCE)
    assert (tree.requests, tree.tokens) == (plain.requests, plain.tokens)
    assert tree.iterations == (config.num_simulations if not plain.root.ended else 1)


def test_the_worlds_hold_what_the_comparison_is_about():
    """Guards the test above: over a few worlds every situation that the search treats apart does occur."""
    seen = Counter()
    for seed in range(20):
        world = World(seed=seed, goal=3, blank=2.0, ramble=0.3)
        config = SearchConfig(
            num_actions=3, rollouts_per_child=4, num_simulations=30, max_depth=4, c_puct=1.0, prior="sequence"
        )
        tree, history = observed(world, config, seed)
        nodes = tree.nodes[1:]
        seen["correct"] += sum(n.verdict == "correct" for n in nodes)
        seen["wrong"] += sum(n.verdict == "wrong" for n in nodes)
        seen["terminal depths"] += len({n.depth for n in nodes if n.answer}) > 1
        seen["dead end with a value"] += sum(n.terminal and n.reward > 0 and bool(n.rollouts) for n in nodes)
        seen["closed by depth"] += sum(n.terminal and n.depth == 4 and n.answer is None for n in nodes)
        seen["terminal revisited"] += sum(n.terminal and n.visits > 2 for n in nodes)
        seen["cut rollout"] += sum(r.tokens == 24 for n in nodes for r in n.rollouts)
        root_steps = answer(world.next_tokens, world.request("", first_request(world, config, seed)))
        usable = [s.text for s in root_steps if s.finished and s.text.strip()]
        seen["unfinished step"] += any(not s.finished for s in root_steps)
        seen["blank step"] += any(s.finished and not s.text.strip() for s in root_steps)
        seen["same text twice"] += len(set(usable)) < len(usable)
        seen["two spellings"] += len({world.key([t]) for t in usable}) < len(set(usable))
        seen["deep selection"] += any(len(selected) >= 2 for selected, *_ in history)
    assert [name for name, count in seen.items() if not count] == []


def first_request(world: World, config: SearchConfig, seed: int):
    one = search(world.problem, config=config, seed=seed, is_terminal=world.is_terminal)
    return next(one)[0]


def test_the_engine_answers_what_the_tests_ask_directly():
    """The comparison calls `answer`; through submit and poll the samples are the same."""
    world = World(seed=0)
    config = SearchConfig(
        num_actions=4, rollouts_per_child=1, num_simulations=1, max_depth=3, c_puct=1.0, prior="uniform"
    )
    request = world.request("", first_request(world, config, 0))
    engine = ScriptedEngine(world.next_tokens)
    ticket = engine.submit(request)
    assert engine.poll() == [(ticket, answer(world.next_tokens, request))]
