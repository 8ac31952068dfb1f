"""What the report stage reads for the page: curves, chains and trees, as far as they are there."""

import shutil

import pytest

from astro.files import write_jsonl
from stages import report
from tests.viz.example import make_completion, make_problem, make_trace, make_tree


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty one, to run in."""
    shutil.copy("arms.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_eval(folder, *models: str) -> None:
    """Two eval sets of two problems; each model solves the first one of a set, the ASTRO models after going back."""
    sets = {"n3": [4, 6, 8], "n4": [3, 5, 7, 9]}
    problems = {s: [make_problem(f"eval-{s}-{i}", 24, numbers) for i in range(2)] for s, numbers in sets.items()}
    for name, members in problems.items():
        (folder / "data/problems/eval").mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / f"data/problems/eval/{name}.jsonl", members)
    (folder / "data/completions").mkdir(parents=True, exist_ok=True)
    for model in models:
        attempts = 1 if "direct" in model else 3
        done = [
            make_completion(p, model, seed=sample, attempts=attempts, solve=p.id.endswith("0"))
            for members in problems.values()
            for p in members
            for sample in (0, 1)
        ]
        write_jsonl(folder / f"data/completions/{model}.jsonl", done)


def test_the_gallery_is_of_both_rl_models_on_every_set(workspace):
    write_eval(workspace, "base", "sft", "sft_direct", "grpo", "grpo_direct")
    found = report.gallery(2)
    assert [e.problem.id for e in found] == ["eval-n3-0", "eval-n3-1", "eval-n4-0", "eval-n4-1"]
    assert {(e.completion.model, e.contrast.model) for e in found} == {("grpo", "grpo_direct")}
    assert all(e.completion.problem_id == e.contrast.problem_id == e.problem.id for e in found)
    assert [e.right for e in found] == [(2, 2), (0, 2)] * 2


def test_the_gallery_falls_back_to_the_sft_models(workspace):
    write_eval(workspace, "base", "sft")
    found = report.gallery(1)
    assert [(e.completion.model, e.contrast) for e in found] == [("sft", None)] * 2


def test_no_chains_no_gallery(workspace):
    assert report.gallery(3) == []
    write_eval(workspace, "base")
    assert report.gallery(3) == []


def test_trees_are_usable_ones_and_levels_take_turns(workspace):
    assert report.sample_trees(2, {}) == []  # nothing was kept
    easy, hard = [4, 6, 8], [3, 5, 7, 9]
    usable = [make_tree(make_problem(f"hard-{i}", 24, hard), seed=3) for i in range(2)]
    useless = make_tree(make_problem("easy", 24, easy), seed=7)  # no correct end
    small = useless.model_copy(
        update={
            "nodes": [
                n if n.index != useless.nodes[-1].index else n.model_copy(update={"verdict": "correct"})
                for n in useless.nodes
            ],
            "problem": make_problem("easy-solved", 24, easy),
        }
    )
    (workspace / "data/trees").mkdir(parents=True)
    write_jsonl(workspace / "data/trees/0.jsonl", [useless, small, *usable])
    assert [t.problem.id for t in report.sample_trees(9, {})] == ["hard-0", "easy-solved", "hard-1"]
    assert [t.problem.id for t in report.sample_trees(1, {})] == ["hard-0"]
    assert report.sample_trees(0, {}) == []


def solved_trees(count: int) -> list:
    """Trees of the two levels in turn."""
    hard = make_tree(make_problem("hard", 24, [3, 5, 7, 9]), seed=3)
    return [
        hard.model_copy(update={"problem": make_problem(f"t{i}", 24, [4, 6, 8] if i % 2 else [3, 5, 7, 9])})
        for i in range(count)
    ]


def write_chains(folder, trees, traces) -> None:
    for name in ("trees", "traces"):
        (folder / "data" / name).mkdir(parents=True)
    write_jsonl(folder / "data/trees/0.jsonl", trees)
    write_jsonl(folder / "data/traces/train.jsonl", traces)


def test_trees_of_chains_that_search_come_first(workspace):
    trees = solved_trees(8)
    backtracks = {0: 1, 1: 0, 2: 2, 3: 1, 4: 3, 5: 2}  # none of the last two
    write_chains(workspace, trees, [make_trace(trees[i], backtracks=n) for i, n in backtracks.items()])
    chains = report.training_chains()
    assert {i: chains[f"t{i}"].backtracks for i in backtracks} == backtracks
    found = [t.problem.id for t in report.sample_trees(8, chains)]
    assert found[:3] == ["t2", "t5", "t4"]  # levels by turns
    assert found[3:] == ["t0", "t1", "t6", "t3", "t7"]
    assert [t.problem.id for t in report.sample_trees(2, chains)] == ["t2", "t5"]


def test_direct_solutions_alone_change_no_choice(workspace):
    """linearize.reflection false."""
    trees = solved_trees(4)
    write_chains(workspace, trees, [make_trace(t, backtracks=0, number=n) for t in trees for n in (0, 1)])
    chains = report.training_chains()
    assert {chain.id for chain in chains.values()} == {f"t{i}/0" for i in range(4)}
    assert report.sample_trees(3, chains) == report.sample_trees(3, {}) == [trees[0], trees[1], trees[2]]


def test_a_chain_does_not_make_a_tree_usable(workspace):
    """A wrong end besides the correct one is asked for still."""
    solved = solved_trees(1)[0]
    chain = make_trace(solved, backtracks=2)
    nodes = [n for n in solved.nodes if n.index in {0, *solved.path(chain.segments[-1].node)}]
    places = {n.index: place for place, n in enumerate(nodes)}
    path = [n.model_copy(update={"index": places[n.index], "parent": places.get(n.parent, -1)}) for n in nodes]
    write_chains(workspace, [solved.model_copy(update={"nodes": path})], [chain])
    assert report.sample_trees(3, report.training_chains()) == []


def test_no_training_chains(workspace):
    assert report.training_chains() == {}
    write_chains(workspace, [], [])
    assert report.training_chains() == {}


def test_curves(workspace):
    (workspace / "metrics/curves").mkdir(parents=True)
    (workspace / "metrics/curves/grpo.csv").write_text("step,reward,first_attempt\n1,0.5,0.25\n2,,0.5\n")
    (workspace / "metrics/curves/grpo_direct.csv").write_text("step,reward\n")  # 0 steps
    assert report.read_curve("grpo") == [
        {"step": 1.0, "reward": 0.5, "first_attempt": 0.25},
        {"step": 2.0, "first_attempt": 0.5},
    ]
    assert report.read_curve("grpo_direct") == []
    assert report.read_curve("sft") == []
