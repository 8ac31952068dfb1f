"""Less work for a tree: what each switch asks for, and what it leaves out."""

import pytest
from pydantic import ValidationError

from astro.execution.search_and_sample_jobs import SearchJobs
from astro.search import Expand, Sample, SearchConfig, Simulate, search
from astro.search.priors import priors
from astro.tasks import get_task
from benchmarks.world import Policy, problems, settings
from tests.scripted_engine import ScriptedEngine, answer
from tests.search.test_core import PROBLEM, SEED, finish, judge, step
from tests.search.world import World, judged


def begin(**changes):
    """A search of PROBLEM whose steps are lines; its first batch."""
    plain = {
        "num_actions": 3,
        "rollouts_per_child": 2,
        "num_simulations": 2,
        "max_depth": 5,
        "c_puct": 1.0,
        "prior": "frequency",
    } | changes
    one = search(
        PROBLEM,
        config=SearchConfig(**plain),
        seed=SEED,
        is_terminal=lambda text: "=" in text,
        key=lambda steps: steps[-1].replace(" ", ""),
        split=lambda text: text.split("; "),
    )
    one = judged(one, judge)
    return one, next(one)


def shapes(batch):
    """(kind, steps, n) of each request."""
    return [(type(w), w.steps, w.n) for w in batch]


# --- merge_steps -------------------------------------------------------------------------------------------------------


def test_equal_steps_are_one_child_and_are_rolled_out_once():
    one, _ = begin()
    assert shapes(one.send([[step("a"), step("a"), step("b")]])) == [(Simulate, ("a",), 2), (Simulate, ("b",), 2)]


def test_without_merging_each_sample_is_a_child_with_rollouts_of_its_own():
    one, _ = begin(merge_steps=False, num_simulations=1)
    batch = one.send([[step("a"), step("a"), step("b")]])
    assert shapes(batch) == [(Simulate, ("a",), 2), (Simulate, ("a",), 2), (Simulate, ("b",), 2)]
    assert len({w.seed for w in batch}) == 3  # else two children would have the same rollouts
    tree = finish(one, [[step("6"), step("6")], [step("6"), step("5")], [step("5"), step("5")]])
    assert [(n.text, n.prior, n.reward) for n in tree.nodes[1:]] == [
        ("a", 0.333333, 1.0),
        ("a", 0.333333, 0.5),
        ("b", 0.333333, 0.0),
    ]


# --- reuse_rollouts ----------------------------------------------------------------------------------------------------

REUSED = [
    # rollouts of the node: (text, finished); what its expansion asks for; what its children then lack
    # two first steps are known, one is drawn; each known child has a rollout already
    ([("c; = 6", True), ("d; x; = 5", True)], [(Expand, ("a",), 1)], {"c": 1, "d": 1, "e": 2}),
    # the same first step twice: one child with both rollouts, which lacks none
    ([("c; = 6", True), ("c; = 5", True)], [(Expand, ("a",), 1)], {"e": 2}),
    # an answer is a child that needs no rollout
    ([("= 6", True), ("d; = 5", True)], [(Expand, ("a",), 1)], {"d": 1, "e": 2}),
    # cut within the first step: that step is unknown
    ([("c", False), ("d; = 5", True)], [(Expand, ("a",), 2)], {"d": 1, "e": 2}),
    # cut later: the step is whole, what follows is a rollout that came to no end
    ([("c; um", False), ("d; = 5", True)], [(Expand, ("a",), 1)], {"c": 1, "d": 1, "e": 2}),
]


@pytest.mark.parametrize(("rollouts", "expansion", "lacking"), REUSED)
def test_rollouts_are_the_children_of_the_node_that_they_start_from(rollouts, expansion, lacking):
    one, _ = begin(reuse_rollouts=True)
    one.send([[step("a"), step("a"), step("a")]])
    batch = one.send([[Sample(text, 0.0, 9, finished) for text, finished in rollouts]])
    assert shapes(batch) == expansion
    batch = one.send([[step("e")] * batch[0].n])
    assert {w.steps[-1]: w.n for w in batch} == lacking
    tree = finish(one, [[step("6")] * w.n for w in batch])
    assert all(len(n.rollouts) == 2 for n in tree.nodes[1:] if not n.terminal)
    cut = [n for n in tree.nodes if n.text == "c"]
    if rollouts[0] == ("c; um", False):
        assert [r.verdict for r in cut[0].rollouts] == ["unparseable_prediction", "correct"]


def test_where_the_rollouts_give_all_actions_nothing_is_expanded():
    one, _ = begin(reuse_rollouts=True, num_actions=2)
    one.send([[step("a"), step("a")]])
    batch = one.send([[step("c; = 6"), step("d; = 5")]])
    assert shapes(batch) == [(Simulate, ("a", "c"), 1), (Simulate, ("a", "d"), 1)]


def test_reuse_needs_a_prior_without_logprobs():
    with pytest.raises(ValueError, match="reuse_rollouts requires prior frequency or uniform, not token"):
        begin(reuse_rollouts=True, prior="token")
    with pytest.raises(ValidationError, match="reuse_rollouts requires prior frequency or uniform"):
        settings(prior="token", savings=settings().savings.model_dump() | {"reuse_rollouts": True})


def searched(world: World, *, reuse: bool):
    """A whole search of a toy world."""
    config = SearchConfig(
        num_actions=4,
        rollouts_per_child=6,
        num_simulations=8,
        max_depth=6,
        c_puct=1.0,
        prior="frequency",
        reuse_rollouts=reuse,
    )
    one = search(
        world.problem,
        config=config,
        seed=0,
        is_terminal=world.is_terminal,
        key=world.key,
        split=lambda text: text.split("\n"),
    )
    one, answers = judged(one, world.judge), None
    try:
        while True:
            answers = [answer(world.next_tokens, world.request("", wanted)) for wanted in one.send(answers)]
    except StopIteration as stop:
        return stop.value


def test_reuse_saves_tokens_on_real_searches():
    """Over toy worlds: fewer tokens for a node."""
    price = {}
    for reuse in (False, True):
        trees = [searched(World(seed=seed), reuse=reuse) for seed in range(8)]
        price[reuse] = sum(t.tokens for t in trees) / sum(len(t.nodes) for t in trees)
    assert price[True] < 0.9 * price[False], price


def test_frequency_is_the_share_of_the_samples():
    spellings = [[step("a"), step(" a")], [step("b")]]
    assert priors(spellings, kind="frequency", counts=[3, 1]) == [0.75, 0.25]
    assert priors(spellings, kind="frequency") == [2 / 3, 1 / 3]


# --- grade_once --------------------------------------------------------------------------------------------------------


def grown(problem, **savings):
    """A tree, and how often the task graded."""
    plain = settings(num_actions=4, rollouts_per_child=4, savings=settings().savings.model_dump() | savings)
    jobs = SearchJobs(plain, "countdown", 3)
    graded = []
    task = type("Counting", (type(get_task("countdown")),), {})()
    task.grade = lambda p, a: graded.append(a) or get_task("countdown").grade(p, a)
    jobs.__dict__["_task"] = task
    _, job = jobs(problem)
    answers, policy = None, Policy()
    try:
        while True:
            answers = [policy(request) for request in job.send(answers)]
    except StopIteration as stop:
        return stop.value, len(graded)


def test_equal_responses_are_graded_once_and_the_tree_is_the_same():
    (problem,) = problems(1)
    once, few = grown(problem)
    each, many = grown(problem, grade_once=False)
    assert once == each
    assert few < many


def test_a_task_travels():
    """To a worker of a cluster: what it caches stays here."""
    import pickle

    (problem,) = problems(1)
    jobs = SearchJobs(settings(), "countdown", 3)
    jobs.request(problem, Expand((), 1, 0))
    again = pickle.loads(pickle.dumps(jobs))
    assert again == jobs
    assert "_task" not in again.__dict__


def test_the_scripted_engine_takes_what_a_task_asks_for():
    """Logprobs are asked for only where the prior reads them."""
    (problem,) = problems(1)
    assert not SearchJobs(settings(prior="frequency"), "countdown", 3).request(problem, Expand((), 1, 0)).logprobs
    wanted = SearchJobs(settings(prior="token"), "countdown", 3).request(problem, Expand((), 2, 0))
    assert wanted.logprobs
    engine = ScriptedEngine(lambda text: {"\n": 1.0})
    ticket = engine.submit(wanted)
    assert [(t, len(samples)) for t, samples in engine.poll()] == [(ticket, 2)]
