"""The search against hand-written answers: what it asks for, and what it makes of each kind of answer."""

import pytest

from astro.search import Expand, Sample, SearchConfig, Simulate, search
from astro.seeds import node_seed
from schemas.records import Problem
from tests.search.world import judged

PROBLEM = Problem(id="p", task="countdown", question="make 6", gold="6", level=2, chance=None)
SEED = 7


def step(text: str, logprob: float = -1.0, *, tokens: int = 2, finished: bool = True) -> Sample:
    return Sample(text, logprob, tokens, finished)


def judge(steps, rest):
    """A solution is its last word; "?" is no answer, "gold?" a problem whose gold is unreadable."""
    word = " ".join([*steps, rest]).split()[-1]
    if word == "gold?":
        return "6", "unparseable_gold"
    if word == "?":
        return None, "unparseable_prediction"
    return word, "correct" if word == "6" else "wrong"


def begin(*, observer=None, **changes):
    """A search of PROBLEM, and its first request batch. Steps that hold "=" are terminal."""
    settings = {
        "num_actions": 3,
        "rollouts_per_child": 2,
        "num_simulations": 4,
        "max_depth": 5,
        "c_puct": 1.0,
        "prior": "sequence",
    } | changes
    one = search(
        PROBLEM,
        config=SearchConfig(**settings),
        seed=SEED,
        is_terminal=lambda text: "=" in text,
        key=lambda steps: steps[-1].replace(" ", ""),
        observer=observer,
    )
    one = judged(one, judge)
    return one, next(one)


def finish(one, answers):
    """Sends the last answers; the search must end with them."""
    with pytest.raises(StopIteration) as stop:
        one.send(answers)
    return stop.value.value


def test_asks_for_steps_then_for_all_completions_in_one_batch():
    one, batch = begin()
    assert batch == [Expand((), 3, node_seed(SEED, "p", (), "expand"))]
    batch = one.send([[step("a"), step("b"), step("= 6")]])
    # the terminal child is not among them
    assert batch == [
        Simulate(("a",), 2, node_seed(SEED, "p", ("a",), "rollout")),
        Simulate(("b",), 2, node_seed(SEED, "p", ("b",), "rollout")),
    ]


def test_children_hold_their_first_value():
    one, _ = begin(num_simulations=1)
    one.send([[step("a"), step("= 5"), step("= 6")]])
    tree = finish(one, [[step("= 6"), step("= 5")]])
    _, a, five, six = tree.nodes
    assert [(n.visits, n.q, n.reward) for n in (a, five, six)] == [(1, 0.5, 0.5), (1, 0.0, 0.0), (1, 1.0, 1.0)]
    assert [(n.terminal, n.answer, n.verdict) for n in (a, five, six)] == [
        (False, None, None),
        (True, "5", "wrong"),
        (True, "6", "correct"),
    ]
    assert [(r.answer, r.verdict, r.tokens) for r in a.rollouts] == [("6", "correct", 2), ("5", "wrong", 2)]
    # the root was never valued itself: its Q is the mean over its children
    assert (tree.nodes[0].visits, tree.nodes[0].q, tree.nodes[0].reward) == (1, 0.5, 0.0)


def test_duplicates_are_one_child_with_their_prior_added_up():
    one, _ = begin(num_actions=5, num_simulations=1)
    # P("a b") = 0.2 though drawn twice, P("a  b") = 0.2, P("c") = 0.1
    drawn = [step("a b", -1.6094379124341003), step("c", -2.302585092994046), step("a b", -1.6094379124341003)]
    drawn += [step("a  b", -1.6094379124341003), step("c", -2.302585092994046)]
    batch = one.send([drawn])
    assert [request.steps for request in batch] == [("a b",), ("c",)]
    tree = finish(one, [[step("6")] * 2, [step("5")] * 2])
    assert [(n.text, n.prior) for n in tree.nodes[1:]] == [("a b", 0.8), ("c", 0.2)]
    assert (tree.requests, tree.tokens) == (3, 5 * 2 + 4 * 2)  # merged samples were generated too


def test_unusable_samples_make_no_child():
    one, _ = begin(num_actions=4)
    # cut by the length limit; blank; empty; the one that counts
    batch = one.send([[step("a", finished=False), step(" \n"), step(""), step("b")]])
    assert [request.steps for request in batch] == [("b",)]


def test_a_root_without_steps_ends_the_search():
    one, _ = begin(num_simulations=9)
    tree = finish(one, [[step(""), step("a", finished=False), step(" ")]])
    assert (tree.iterations, tree.requests, tree.tokens, len(tree.nodes)) == (1, 1, 6, 1)
    assert (tree.nodes[0].terminal, tree.nodes[0].answer) == (True, None)
    assert tree.nodes[0].verdict == "unparseable_prediction"


def test_a_dead_end_is_closed_and_keeps_what_its_rollouts_measured():
    one, _ = begin(num_simulations=6)
    one.send([[step("a")] * 3])
    assert one.send([[step("6"), step("5")]]) == [Expand(("a",), 3, node_seed(SEED, "p", ("a",), "expand"))]
    tree = finish(one, [[step("")] * 3])  # iterations 3 to 6 ask for nothing: it is the only leaf
    a = tree.nodes[1]
    assert (a.terminal, a.answer, a.verdict) == (True, None, "unparseable_prediction")
    assert (a.reward, a.q, a.visits, len(a.rollouts)) == (0.5, 0.5, 6, 2)
    assert (tree.iterations, tree.requests) == (6, 3)


def test_the_depth_limit_closes_children_without_rollouts():
    one, _ = begin(max_depth=1, num_simulations=2)
    tree = finish(one, [[step("a"), step("= 6"), step("b")]])
    assert [(n.terminal, n.verdict, n.reward, n.rollouts) for n in tree.nodes[1:]] == [
        (True, "unparseable_prediction", 0.0, []),
        (True, "correct", 1.0, []),
        (True, "unparseable_prediction", 0.0, []),
    ]


# what the child is or leads to -> R; none of these may count as correct
@pytest.mark.parametrize(
    ("drawn", "completions", "verdict"),
    [
        ("= gold?", None, "unparseable_gold"),  # a terminal step, gold unreadable
        ("a", step("gold?"), "unparseable_gold"),  # a rollout, gold unreadable
        ("= ?", None, "unparseable_prediction"),  # a terminal step without an answer
        ("a", step("?"), "unparseable_prediction"),  # a rollout without an answer
        ("a", step("= 6", finished=False), "unparseable_prediction"),  # cut: "6" may be the beginning of "64"
    ],
)
def test_only_a_correct_verdict_is_worth_anything(drawn, completions, verdict):
    one, _ = begin(num_simulations=1)
    if completions is None:
        tree = finish(one, [[step(drawn)] * 3])
        assert tree.nodes[1].verdict == verdict
    else:
        one.send([[step(drawn)] * 3])
        tree = finish(one, [[completions] * 2])
        assert [r.verdict for r in tree.nodes[1].rollouts] == [verdict] * 2
    assert tree.nodes[1].reward == 0.0


def test_terminal_nodes_are_visited_again_but_never_asked_about_again():
    one, _ = begin(num_actions=1, num_simulations=5)
    tree = finish(one, [[step("= 6")]])
    assert [(n.visits, n.q) for n in tree.nodes] == [(5, 1.0), (5, 1.0)]
    assert tree.requests == 1


def test_backpropagation_by_hand():
    one, _ = begin(num_actions=2, num_simulations=2, c_puct=0.0)
    one.send([[step("a"), step("b")]])
    assert one.send([[step("6"), step("6")], [step("6"), step("5")]])[0].steps == ("a",)  # Q = 1 beats 0.5
    one.send([[step("c"), step("d")]])
    tree = finish(one, [[step("6"), step("5")], [step("5"), step("5")]])
    root, a, b, c, d = tree.nodes
    assert [n.visits for n in (root, a, b, c, d)] == [2, 2, 1, 1, 1]
    # Q(a) = (0.5 * 1 + 0 * 1 + R(a) = 1) / (2 + 1); Q(root) = (0.5 * 2 + 0.5 * 1) / 3
    assert [n.q for n in (root, a, b, c, d)] == [0.5, 0.5, 0.5, 0.5, 0.0]


def test_the_record_is_rounded_and_the_search_is_not():
    seen = []
    one, _ = begin(num_simulations=1, prior="uniform", observer=lambda i, path, nodes: seen.append(nodes[1].prior))
    tree = finish(one, [[step("= 1"), step("= 2"), step("= 3")]])
    assert seen == [1 / 3]
    assert tree.nodes[1].prior == 0.333333


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "expected 1 answers"),  # none for the one request
        ([[step("a")] * 3, []], "expected 1 answers"),  # one too many
        ([[step("a")] * 2], "expected 3 samples"),  # a sample is missing
        ([[step("a", float("nan"))] * 3], "logprob of step 'a' is nan"),  # would poison every comparison
    ],
)
def test_answers_that_do_not_fit_are_refused(answers, message):
    one, _ = begin()
    with pytest.raises(ValueError, match=message):
        one.send(answers)


@pytest.mark.parametrize(
    "changes",
    [
        *({name: 0} for name in ("num_actions", "rollouts_per_child", "num_simulations", "max_depth")),
        *({"c_puct": bad} for bad in (-0.1, float("nan"), float("inf"))),
        {"prior": "softmax"},
    ],
)
def test_a_config_out_of_bounds_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        begin(**changes)


def ended(text: str) -> Sample:
    """A step after which the model ended its turn."""
    return Sample(text, -1.0, 2, True, True)


def test_a_step_that_ends_the_turn_is_not_continued():
    """Without an answer it is a dead end, worth nothing; with one it is graded; one that also went on goes on."""
    one, _ = begin(num_actions=5, num_simulations=1, turns=True)
    (wanted,) = one.send([[ended("a"), ended("= 6"), ended("b"), step("b"), step("c ")]])[:1]
    assert wanted.steps == ("b",)
    tree = finish(one, [[step("= 6")] * 2, [step("= 6")] * 2])
    _, a, six, b, c = tree.nodes
    assert (a.terminal, a.answer, a.verdict, a.reward, a.rollouts) == (True, None, "unparseable_prediction", 0.0, [])
    assert (six.terminal, six.verdict) == (True, "correct")
    assert [node.terminal for node in (b, c)] == [False, False]


def test_without_turns_every_step_can_be_continued():
    one, _ = begin(num_simulations=1)
    assert [r.steps for r in one.send([[ended("a"), step("b"), ended("c")]])] == [("a",), ("b",), ("c",)]


def test_a_reused_rollout_of_one_step_ends_the_turn():
    """What followed nothing in a rollout is a dead end as an action too."""
    settings = {
        "num_actions": 2,
        "rollouts_per_child": 2,
        "num_simulations": 2,
        "max_depth": 5,
        "c_puct": 1.0,
        "prior": "uniform",
    }
    one = search(
        PROBLEM,
        config=SearchConfig(**settings, reuse_rollouts=True, turns=True),
        seed=SEED,
        is_terminal=lambda text: "=" in text,
        split=lambda text: text.split("/"),
    )
    one = judged(one, judge)
    next(one)
    one.send([[step("a"), step("= 5")]])
    tree = finish(one, [[ended("b"), ended("c")]])
    assert [(node.text, node.terminal, node.verdict) for node in tree.nodes[3:]] == [
        ("b", True, "unparseable_prediction"),
        ("c", True, "unparseable_prediction"),
    ]
