"""Votes and rewrites of a real chat model: a tiny Llama in Llama-3.1's format, a little taught, over transformers."""

import pytest

from astro.cloning.rewrite import RewriteFigures, Rewritten, chain_id, retold
from astro.execution.vote_and_rewrite_jobs import Ballot, RewriteJobs, VoteJobs, candidate_of, draft_of
from astro.inference.hf_engine import HfEngine
from astro.tasks.chat import load_chat_template
from astro.tasks.math.rewrite import MathEditor
from astro.tasks.math.task import Math
from schemas.linearize import RewriteParams, SelfEvalParams
from tests.cloning.rewriting import MATH, PHRASES, examples_for, traces, triangle
from tests.execution.test_vote_and_rewrite_jobs import run as run_tasks
from tests.tiny_chat import teach, write_tiny_chat

pytestmark = pytest.mark.slow

TREES = [triangle(n) for n in range(3)]
CHAINS = [(which, t) for which in TREES for t in traces(which, count=2)]
LM = RewriteParams(shots=0, temperature=0.5, max_tokens=32, retries=1, on_failure="template", max_dropped=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Taught for some steps only: it knows what follows a doubt, and hardly any step."""
    folder = tmp_path_factory.mktemp("chat")
    plain = MathEditor(MATH, shots=0, phrases=PHRASES.all())
    write_tiny_chat(folder, texts=[p + r for p, r in examples_for(TREES, editor=plain)], context=1024, sharpness=1.0)
    pairs = list(dict.fromkeys(examples_for(TREES, editor=editor(folder))))
    teach(folder, lambda rng, count: [rng.choice(pairs) for _ in range(count)], steps=30, batch=8)
    return folder


def editor(folder):
    return MathEditor(Math(PHRASES, load_chat_template(folder)), shots=0, phrases=PHRASES.all())


class Noting(HfEngine):
    """Keeps what it is asked."""

    def submit(self, request):
        """As `Engine.submit`."""
        self.__dict__.setdefault("asked", []).append(request)
        return super().submit(request)


def run(folder, kept, *, batch_size):
    engine = Noting(folder, batch_size=batch_size, dtype="float32", max_model_len=1024)
    task = Math(PHRASES, load_chat_template(folder))
    drafts = {chain_id(t): draft_of(which, t, task) for which, t in CHAINS}
    jobs = RewriteJobs(LM, "math", 1, tuple(PHRASES.all()), load_chat_template(folder))
    return run_tasks(jobs, list(drafts.values()), Rewritten, engine, kept), engine


def test_chains_are_rewritten_by_a_chat_model(model, tmp_path):
    found, engine = run(model, tmp_path / "a", batch_size=64)
    figures = RewriteFigures()
    for _, trace in CHAINS:
        figures.retold([trace], found, step_end=MATH.step_end)
    metrics = figures.metrics()
    jumps = sum(s.kind in ("reflection", "return") and bool(s.text.strip()) for _, t in CHAINS for s in t.segments)
    assert 0 < metrics.fallbacks < metrics.segments
    assert metrics.requests - sum(metrics.rejected.model_dump().values()) > jumps / 4  # doubts at least pass
    for request in engine.asked:
        assert request.prompt.count("<|begin_of_text|>") == 1
        answer = request.prompt.rpartition("<|start_header_id|>assistant<|end_header_id|>\n\n")[2]
        assert answer == "" or answer in PHRASES.all()
    for _, trace in CHAINS:
        told = retold(trace, found[chain_id(trace)], step_end=MATH.step_end)
        assert MATH.extract(told.completion) == trace.answer
        assert "<|" not in told.completion
    again, _ = run(model, tmp_path / "b", batch_size=5)
    assert again == found


def test_votes_of_a_chat_model_are_the_same_in_any_batch(model, tmp_path):
    ballots = []
    for name, size in (("a", 64), ("b", 2)):
        engine = Noting(model, batch_size=size, dtype="float32", max_model_len=1024)
        settings = SelfEvalParams(votes=2, min_share=0.5, max_tokens=4)
        asked = [candidate_of(which, 3) for which in TREES]
        jobs = VoteJobs(settings, "math", 1, load_chat_template(model))
        ballots.append({i: b.votes for i, b in run_tasks(jobs, asked, Ballot, engine, tmp_path / name).items()})
        assert all(r.prompt.endswith("assistant<|end_header_id|>\n\n") for r in engine.asked)
    assert ballots[0] == ballots[1]
    assert [len(votes) for votes in ballots[0].values()] == [2] * len(TREES)
