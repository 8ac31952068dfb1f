"""The mcts stage over an endpoint that misbehaves: a clear end, honest counts, and nothing lost."""

import contextlib
from pathlib import Path

import pytest

from astro.execution.result_store import FILE, ResultStore
from astro.files import read_json, read_shards, write_jsonl
from astro.inference.engine import Request
from benchmarks.world import Policy, problems, stored
from schemas.mcts import MctsMetrics
from schemas.records import Tree
from tests.inference.test_endpoint import MODEL, Server
from tests.pipeline.checkout import Checkout
from tests.pipeline.test_bad_input import fails, params, workspace  # noqa: F401 (fixtures)

COUNT = 24


def policy(body):
    """Random legal moves, as a completions endpoint answers them."""
    asked = Request(body["prompt"], body["n"], 99, 1.0, tuple(body.get("stop") or ()), body["seed"], False)
    return reply(body, [(s.text, "stop") for s in Policy()(asked)])


def reply(body, texts):
    """(text, finish reason) pairs as an answer."""
    choices = [{"index": i, "text": t, "finish_reason": end, "logprobs": None} for i, (t, end) in enumerate(texts)]
    usage = {"prompt_tokens": 1, "completion_tokens": 9 * body["n"], "total_tokens": 1}
    return {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": choices, "usage": usage}


def sums():
    """Problems whose target is the sum: random moves find some of them."""
    for one in problems(COUNT):
        words = one.question.split()
        total = str(sum(int(n) for n in words[3:]))
        yield one.model_copy(update={"question": " ".join([words[0], total, *words[2:]]), "gold": total})


@pytest.fixture
def searching(workspace: Checkout):  # noqa: F811
    """A workspace with problems and params for an endpoint; call it with what the endpoint answers."""
    write_jsonl(workspace.root / "data/problems/train.jsonl", sums())
    (workspace.root / "models/base").mkdir(parents=True)
    values = {"engine.kind": "endpoint", "execution.endpoint.retries": 0, "execution.endpoint.wait_timeout_s": 0.0}
    values |= {
        "engine.endpoint.model": MODEL,
        "mcts.prior": "uniform",
        "execution.trees_in_flight": 4,
        "mcts.problems": COUNT,
        "execution.concurrency": 8,
    }
    for name, value in values.items():
        workspace.set_param(name, value)
    started = []

    def run(answer, **changes):
        started.append(Server(answer))
        workspace.set_param("execution.endpoint.url", started[-1].url)
        for name, value in changes.items():
            workspace.set_param(name.replace("__", "."), value)
        return workspace.run("python", "-m", "stages.mcts", ok=False)

    run.root = workspace.root
    yield run
    for server in started:
        server.close()


def kept(root: Path) -> int:
    return sum(map(stored, (root / "work/mcts").glob(f"*/{FILE}")))


def dies_after(requests):
    """An endpoint that fails for good after so many answers."""
    left = iter(range(requests))

    def answer(body):
        return (200, policy(body)) if next(left, None) is not None else (500, {"error": {"message": "out of memory"}})

    return answer


def test_an_endpoint_that_dies_in_the_middle_costs_the_trees_in_flight_alone(searching):
    done = searching(dies_after(60))
    there = kept(searching.root)
    assert 0 < there < COUNT
    fails(done, rf"execution\.endpoint\.url .*out of memory.*; {there} finished trees are kept for the next run")
    assert not (searching.root / "data/trees").exists()
    # another address of the same model is not other work: only what was in flight is asked for again
    again = searching(lambda body: (200, policy(body)))
    assert again.code == 0, again.err
    trees = list(read_shards(searching.root / "data/trees", Tree))
    assert f"resumes: {there} of {COUNT} trees" in again.out
    assert [t.problem.id for t in trees] == [p.id for p in sums()]
    metrics = read_json(searching.root / "metrics/mcts.json", MctsMetrics)
    assert (metrics.trees, metrics.tokens) == (COUNT, sum(t.tokens for t in trees))


def unended(body):
    return 200, reply(body, [("um um um", "length")] * body["n"])


def test_a_model_that_ends_no_step_is_told_and_its_trees_are_kept(searching):
    done = searching(unended)
    fails(done, r"gate trees failed:(.|\n)*enough trees hold a correct terminal node")
    assert kept(searching.root) == COUNT
    (path,) = (searching.root / "work/mcts").glob(f"*/{FILE}")
    with contextlib.closing(ResultStore(path, Tree)) as store:
        tree = store["s0"]
    assert (len(tree.nodes), tree.requests) == (1, 1)
    assert tree.nodes[0].verdict == "unparseable_prediction"


def test_a_problem_whose_every_step_is_a_duplicate_has_one_path(searching):
    """Each expansion gives one child; it is rolled out once, whatever k is."""

    def same(body):
        first = policy(body | {"n": 1, "seed": 7})["choices"][0]["text"]
        return 200, reply(body, [(first, "stop")] * body["n"])

    done = searching(same)
    assert kept(searching.root) in (0, COUNT), done  # published, or refused by the gate as a whole
    trees = []
    for path in (searching.root / "work/mcts").glob(f"*/{FILE}"):
        with contextlib.closing(ResultStore(path, Tree)) as store:
            trees = [store[f"s{i}"] for i in range(COUNT)]
    trees = trees or list(read_shards(searching.root / "data/trees", Tree))
    assert len(trees) == COUNT
    assert all([n.parent for n in t.nodes] == list(range(-1, len(t.nodes) - 1)) for t in trees)


def test_no_valid_tree_is_an_honest_count(searching):
    """Everything is answered at once, and right: no wrong node, so no tree for a search trace. The gate says so."""

    def right(body):
        question = body["prompt"].split("\n")[0].split()
        return 200, reply(body, [(f"make {question[1]} answer {' + '.join(question[3:])}", "stop")] * body["n"])

    done = searching(right)
    message = fails(done, r"gate trees failed:(.|\n)*enough trees hold a correct and a wrong terminal node")
    assert "observed value 0" in message
    assert kept(searching.root) == COUNT


@pytest.mark.slow
def test_the_stage_on_ray_makes_the_trees_of_this_machine(searching):
    """A cluster of its own for the stage: two runs of the real command, the same shards and figures."""
    made = []
    for runner in ("local", "ray"):
        done = searching(lambda body: (200, policy(body)), execution__runner=runner)
        assert done.code == 0, done.err
        shards = {p.name: p.read_bytes() for p in (searching.root / "data/trees").iterdir()}
        made.append((shards, (searching.root / "metrics/mcts.json").read_bytes()))
    assert made[0] == made[1]


def test_a_gate_that_fails_keeps_the_trees_and_its_bound_is_a_parameter(searching):
    """A hard set with a weak base: another bound is enough, and no tree is searched again."""
    done = searching(lambda body: (200, policy(body)), mcts__gate__min_solved=1.0, mcts__gate__min_valid=1.0)
    assert done.code == 2
    assert "enough trees hold a correct" in done.err
    assert not (searching.root / "data/trees").exists()
    done = searching(refuse, mcts__gate__min_solved=0.0, mcts__gate__min_valid=0.0)
    assert done.code == 0, done.err
    assert (searching.root / "data/trees").is_dir()


def refuse(body):
    raise AssertionError("a tree is searched again")
