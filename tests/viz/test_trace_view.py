"""Which training chain stands below a tree, and how its text is divided."""

from astro.viz import trace_view
from schemas.records import Segment
from tests.viz.example import make_problem, make_trace, make_tree


def hard_tree(name: str = "p"):
    return make_tree(make_problem(name, 24, [3, 5, 7, 9]), seed=3)


def test_the_chain_that_goes_back_most_often_is_chosen_for_each_problem():
    tree, other = hard_tree(), hard_tree("q")
    traces = [make_trace(tree, backtracks=b, number=i) for i, b in enumerate((0, 1, 3, 2, 3))]
    direct = [make_trace(other, backtracks=0, number=i) for i in range(2)]
    found = trace_view.most_backtracks([direct[0], *traces, direct[1]])
    assert {problem: trace.id for problem, trace in found.items()} == {"p": "p/2", "q": "q/0"}
    assert trace_view.most_backtracks([]) == {}


def test_one_backtrack_is_one():
    assert trace_view.view(make_trace(hard_tree(), backtracks=1), limit=10_000).facts == "search, 1 backtrack"


def test_a_chain_is_cut_at_a_character_and_what_is_left_out_is_counted():
    segments = [
        Segment(text="one\n", kind="wrong_step", node=1),
        Segment(text="back to\n\nzero\n", kind="return", node=0),
        Segment(text="two", kind="step", node=2),
    ]
    trace = make_trace(hard_tree(), backtracks=1)
    trace = trace.model_copy(update={"segments": segments, "completion": "".join(s.text for s in segments)})
    whole = trace_view.view(trace, limit=21)
    assert whole.cut == 0
    assert [(line.state, line.text) for line in whole.lines] == [
        ("wrong", "one"),
        ("back", "back to"),
        ("back", ""),
        ("back", "zero"),
        ("right", "two"),
    ]
    cut = trace_view.view(trace, limit=15)
    assert [line.text for line in cut.lines] == ["one", "back to", "", "ze"]
    assert cut.cut == 6
