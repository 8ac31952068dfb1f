"""linearize with `writer: lm` and `filter: self_eval` by its real command, over an endpoint: whole, killed, and refused."""

import random
import re
import time
from pathlib import Path

import pytest

from astro.cloning.verbalize import load_phrases
from astro.files import read_json, read_jsonl, write_jsonl
from astro.profiles import merged
from astro.tasks.math.task import Math
from benchmarks.world import stored
from schemas.linearize import LinearizeMetrics
from schemas.records import Problem, Trace
from tests.cloning.rewriting import LEAD, moody, triangle, well
from tests.inference.test_endpoint import MODEL, Server, completion
from tests.pipeline.checkout import REPOSITORY, Checkout, environment, kill

pytestmark = pytest.mark.slow

CODE = ("astro", "schemas", "stages", "phrases", "dvc.yaml", "arms.yaml")
SETTINGS = {
    "run.task": "math",
    "problems.source": "files",
    "problems.files": {name: {"path": f"{name}.jsonl"} for name in ("train", "rl", "eval_sums")},
    "base.source": "pretrained",
    "base.pretrained.path": "pretrained",
    "engine.kind": "endpoint",
    "engine.endpoint.model": MODEL,
    "execution.concurrency": 6,
    "linearize.phrase_file": "phrases/math_lm.yaml",
    "linearize.max_backtracks": 3,
    "linearize.filter": "self_eval",
    "linearize.self_eval.max_tokens": 16,
    "linearize.writer": "lm",
    "linearize.lm.shots": 1,
    "linearize.lm.retries": 1,
    "linearize.lm.max_dropped": 1.0,
}
TREES = [triangle(n) for n in range(8)]
WRITE = moody(lambda prompt: well(prompt) + " It is $777$.", 0.25)


def answer(body):
    """The model: votes (on 5, 12, 13 it thinks little of), and rewrites, some of them badly."""
    time.sleep(0.01)
    prompt, texts = body["prompt"], []
    for seed in range(body["seed"], body["seed"] + body["n"]):
        sound = random.Random(seed).random() < (0.1 if "12$" in prompt else 0.9)
        texts.append(("Yes, it is." if sound else "No.") if "by luck?" in prompt else WRITE(prompt, seed)[0])
    found = completion(body)
    for choice, text in zip(found["choices"], texts, strict=True):
        choice["text"] = text
    return 200, found


@pytest.fixture(scope="module")
def server():
    running = Server(answer)
    yield running
    running.close()


def workplace(root: Path, server: Server, **settings) -> Checkout:
    """A folder with what stands before linearize."""
    root.mkdir(parents=True)
    for name in CODE:
        (root / name).symlink_to(REPOSITORY / name)
    text = (REPOSITORY / "params.yaml").read_text()
    (root / "params.yaml").write_text(merged(REPOSITORY / "profiles/smoke.yaml", text))
    checkout = Checkout(root, environment(ASTRO_TRACKING="off"), warm=True)
    for name, value in (SETTINGS | {"execution.endpoint.url": server.url} | settings).items():
        checkout.set_param(name, value)
    write_jsonl(root / "data/trees/00000.jsonl", TREES)
    asked = Problem(id="e", task="math", question="What is $1+1$?", gold="2", level=1, chance=None)
    write_jsonl(root / "data/problems/eval/sums.jsonl", [asked])
    (root / "models/base").mkdir(parents=True)
    (root / "models/base/config.json").write_text("{}")
    return checkout


COMMAND = ("python", "-m", "stages.linearize")
OUTS = ("data/traces/train.jsonl", "data/traces/direct.jsonl", "metrics/linearize.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Checkout:
    """A run that nothing disturbs."""
    checkout = workplace(tmp_path_factory.mktemp("whole") / "astro", server)
    done = checkout.run(*COMMAND)
    assert re.search(r"\[linearize\] (\d+)/\1, [\d.]+ chains/s, 0 s left", done.out)
    assert list((checkout.root / "work/linearize").glob("*/*.*")) == []
    return checkout


def test_chains_are_rewritten_and_the_counts_say_how(whole: Checkout):
    metrics = read_json(whole.root / "metrics/linearize.json", LinearizeMetrics)
    traces = list(read_jsonl(whole.root / "data/traces/train.jsonl", Trace))
    direct = list(read_jsonl(whole.root / "data/traces/direct.jsonl", Trace))
    assert [t.id for t in traces] == [t.id for t in direct]
    assert metrics.traces == len(traces) > 0
    assert 0 < metrics.trees_filtered < len(TREES)  # by the votes
    rewrites = metrics.rewrites
    assert rewrites.dropped == rewrites.dropped_for.added > 0
    assert rewrites.rejected.added > rewrites.dropped
    assert rewrites.requests > rewrites.rejected.added
    assert 0 < rewrites.left_out < 0.9
    task = Math(load_phrases(REPOSITORY / "phrases/math_lm.yaml"))
    problems = {tree.problem.id: tree.problem for tree in TREES}
    for trace in [*traces, *direct]:
        assert trace.segments[0].text.startswith(LEAD)
        chain = task.parse_chain(problems[trace.problem_id], trace.completion)
        assert (len(chain.back_edges), len(chain.attempts)) == (trace.backtracks, trace.backtracks + 1)
        assert [chain.nodes[i].right for i in chain.attempts] == [False] * trace.backtracks + [True]


def kept(root: Path, name: str) -> int:
    """Results in a store of the work folder."""
    return sum(map(stored, (root / "work/linearize").glob(f"*/{name}.sqlite")))


def published(root: Path) -> list[str]:
    """Training sets."""
    return [path.name for path in (root / "data/traces").glob("*")]


def test_killed_and_refused_it_goes_on_where_it_was(whole: Checkout, tmp_path: Path, server: Server):
    """Killed among the votes, killed among the rewrites, refused because too many were lost, and let through: the same bytes,
    and no answer of the model asked for twice but those that were under way."""
    checkout = workplace(tmp_path / "astro", server, **{"linearize.lm.max_dropped": 0.01})
    for name, count in (("votes", 4), ("rewrites", 7)):
        with checkout.started(*COMMAND) as running:
            running.wait_for(lambda name=name, count=count: kept(checkout.root, name) >= count, what=f"{count} {name}")
            kill(running.process)
            running.process.wait()
        assert published(checkout.root) == []
    rewrites, before = kept(checkout.root, "rewrites"), len(server.asked)
    assert kept(checkout.root, "votes") == len(TREES)

    done = checkout.run(*COMMAND, ok=False)
    assert f"resumes: {rewrites} of" in done.out
    assert not any("by luck?" in body["prompt"] for body in server.asked[before:])
    assert done.code == 2
    assert re.search(
        r"linearize\.lm\.max_dropped: \d+% of the examples are lost, more than 1%: \d+ of \d+ chains could not be rewritten "
        r"\(added \d+; docs/linearize\.md",
        done.err,
    )
    assert published(checkout.root) == []

    checkout.set_param("linearize.lm.max_dropped", 1.0)
    before = len(server.asked)
    checkout.run(*COMMAND)
    assert len(server.asked) == before
    for out in OUTS:
        assert (checkout.root / out).read_bytes() == (whole.root / out).read_bytes(), out
