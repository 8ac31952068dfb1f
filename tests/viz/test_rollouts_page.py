"""The page of RL's rollouts: what it shows of them, and that model text stays data."""

import hashlib
import re
import shutil

import pytest

from astro.files import digest_path, write_text
from astro.training import rollout_store
from astro.training.rollout_store import RolloutWriter
from astro.viz.rollouts_page import STEPS, ArmRollouts, render, spaced, telling
from schemas.grpo import ValidationMetrics, ValidationPoint
from schemas.rollouts import RlRollout
from stages import report
from tests.viz.example import make_completion, make_problem

PROBLEMS = {p.id: p for p in [make_problem(f"rl-{i}", 18 + i, [4, 6, 8 + i]) for i in range(6)]}


def rollout(problem, step, *, right, kind="validation", number=0, seed=0, text=None):
    made = make_completion(problem, "grpo", seed=seed or step + 1, attempts=2 + step % 3, solve=right)
    return RlRollout(
        set=kind,
        step=step,
        problem_id=problem.id,
        number=number,
        prefix="",
        text=made.text if text is None else text,
        tokens=made.tokens,
        finished=True,
        answer=made.answer,
        verdict="correct" if right else "wrong",
        reward=None if kind == "validation" else (1.0 if right else -1.0),
        used=True,
        chain=made.chain,
    )


LEARNT, LOST, KEPT = "rl-3", "rl-1", "rl-0"


def arm(stage="grpo", steps=(0, 5, 10), **changes):
    """Problem 3 is learnt on the way, 1 is lost, the others stay as they are."""
    held = list(PROBLEMS.values())[:4]
    turns = {LEARNT: lambda s: s > 0, LOST: lambda s: s == 0, KEPT: lambda s: True, "rl-2": lambda s: False}
    validation = {s: [rollout(p, s, right=turns[p.id](s)) for p in held] for s in steps}
    mixed = list(PROBLEMS.values())[4:]
    train = {
        s: [rollout(p, s, right=bool(n % 2), kind="train", number=n) for p in mixed for n in range(4)]
        for s in range(1, max(steps) + 1)
    }
    given = {
        "problems": PROBLEMS,
        "validation": validation,
        "train": train,
        "folder": f"rollouts/{stage}/x",
        "files": 13,
    }
    return ArmRollouts(stage, **given | changes)


def points(*values):
    return [
        ValidationPoint(step=5 * i, pass_at_1=v, length=100.0, mean_backtracks=1.0, truncated=0.0)
        for i, v in enumerate(values)
    ]


VALIDATED = {
    "grpo": ValidationMetrics(problems=4, points=points(0.5, 0.75, 0.5), published_step=5, stopped_early=False)
}
CURVES = {"grpo": [{"step": p.step, "validation_pass_at_1": p.pass_at_1} for p in VALIDATED["grpo"].points]}


def page_of(arms, **changes):
    return render(arms, **{"problems": 3, "validated": VALIDATED, "curves": CURVES} | changes)


def frames(page):
    """[(stage's label, step)] in order."""
    return [(m[1], int(m[2])) for m in re.finditer(r"</span>([\w-]+), step (\d+)\n", page)]


def test_the_problems_that_tell_something_come_first():
    assert telling([arm()], 3) == [LEARNT, LOST, KEPT]
    assert telling([arm()], 9) == [LEARNT, LOST, KEPT, "rl-2"]
    assert telling([arm(validation={})], 3) == telling([], 3) == []


def test_the_same_problem_of_both_arms_at_each_measurement():
    page = page_of([arm(), arm("grpo_direct")], problems=1)
    held_out = page[page.index('id="held-out"') : page.index('id="trained"')]
    assert frames(held_out) == [("ASTRO-RL", s) for s in (0, 5, 10)] + [("Direct-RL", s) for s in (0, 5, 10)]
    assert PROBLEMS[LEARNT].question in held_out
    assert "ASTRO-RL \u2717\u2713\u2713" in held_out
    assert held_out.count('<svg class="graph"') == 6
    assert "published after step 5" in page
    assert 'data-steps="0 1 2 3 4 5 6 7 8 9 10"' in page


def test_of_a_step_a_right_and_a_wrong_completion_of_one_prompt():
    page = page_of([arm()])
    trained = page[page.index('id="trained"') : page.index('id="files"')]
    assert frames(trained) == [("ASTRO-RL", s) for s in range(1, 11)] * 2
    assert trained.count("reward 1.0") == trained.count("reward -1.0") == 10


def test_nothing_kept_is_said():
    page = page_of([], validated={}, curves={})
    assert page.count("No rollout of this kind was kept.") == 2
    assert "Not validated" in page
    assert "made elsewhere" in page
    assert 'id="step"' not in page


def test_model_text_is_data_and_the_page_loads_nothing():
    evil = '</p><script>alert(1)</script><img src=x onerror="alert(1)"> "quoted"'
    problem = PROBLEMS[LEARNT]
    rows = {s: [rollout(problem, s, right=s > 0, text=evil)] for s in (0, 5)}
    page = page_of([arm(validation=rows)])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script") == 1
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    allowed = re.search(r"script-src 'sha256-([^']+)'", page)[1]
    import base64

    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#|report\.html)', page)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        # what HTML does not allow
        ("\x00", "\u2400"), ("\x08", "\u2408"), ("\x1b[31m", "\u241b[31m"), ("\x7f", "\u2421"),
        # what would turn the page's own marks and words around
        ("\u202e", "\u27e8U+202E\u27e9"), ("\u2067", "\u27e8U+2067\u27e9"),
        # letters of any script stay as they are
        ("\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u6f22\u5b57 \U0001f600 e\u0301", None),
    ],
)  # fmt: skip
def test_text_of_a_model_cannot_break_or_turn_the_page_around(text, sign):
    problem = PROBLEMS[LEARNT].model_copy(update={"question": f"{PROBLEMS[LEARNT].question} Q{text}Q"})
    rows = {s: [rollout(PROBLEMS[LEARNT], s, right=s > 0, text=f"T{text}T")] for s in (0, 5)}
    page = page_of([arm(validation=rows, problems={**PROBLEMS, LEARNT: problem})])
    if sign is None:
        assert page.count(f"T{text}T") >= 2
        assert f"Q{text}Q" in page
    else:
        assert text[0] not in page
        assert page.count(f"T{sign}T") >= 2
        assert f"Q{sign}Q" in page


def test_same_rollouts_same_page_and_a_long_run_stays_small():
    long = arm(steps=tuple(range(0, 305, 5)))
    page = page_of([long, arm("grpo_direct", steps=tuple(range(0, 305, 5)))], problems=6)
    assert page == page_of([long, arm("grpo_direct", steps=tuple(range(0, 305, 5)))], problems=6)
    assert len(page.encode()) < 3_400_000
    found = [step for _, step in frames(page)]
    assert {0, 300} <= set(found)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (STEPS, STEPS), (STEPS + 1, STEPS), (300, STEPS)])
def test_steps_are_evenly_spaced_with_both_ends(count, kept):
    found = spaced(range(count))
    assert len(found) == kept
    assert (found[0], found[-1]) == (0, count - 1)


# --- what the report stage finds --------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copy("arms.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "ASTRO_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def keep(root, stage, curve="step,reward\n1,0.5\n"):
    """Rollouts beside a stage with this curve."""
    work = root / "work" / stage
    writer = RolloutWriter(work / rollout_store.FOLDER, limit_mb=10.0)
    given = arm(stage)
    for kind in ("validation", "train"):
        for step, rows in getattr(given, kind).items():
            writer.write(kind, step, rows)
    path = root / "metrics/curves" / f"{stage}.csv"
    write_text(path, curve)
    rollout_store.publish(work, rollout_store.home_of(root, stage, digest_path(path)), list(PROBLEMS.values()))


def test_the_report_finds_the_rollouts_of_these_models_and_no_others(workspace):
    assert report.kept_rollouts() == []
    keep(workspace, "grpo_direct")
    keep(workspace, "grpo")
    found = report.kept_rollouts()
    assert [a.stage for a in found] == ["grpo", "grpo_direct"]
    assert found[0].validation == arm().validation
    assert found[0].train == arm().train
    assert found[0].problems == PROBLEMS
    write_text(workspace / "metrics/curves/grpo.csv", "step,reward\n1,0.25\n")  # of another run, out of the cache
    assert [a.stage for a in report.kept_rollouts()] == ["grpo_direct"]


def test_the_reports_sample_is_one_problem_before_and_after(workspace):
    assert report.first_and_last([]) == ("", [])
    question, chains = report.first_and_last([arm()])
    assert question == PROBLEMS[LEARNT].question
    assert [(c.set, c.verdict) for c in chains] == [("after step 0", "wrong"), ("after step 10", "correct")]


def test_the_curve_begins_with_the_measurement_before_the_first_step():
    metrics = {"validation": VALIDATED["grpo"].model_dump()}
    first, *rest = report.with_start([{"step": 5.0, "reward": 1.0}], metrics)
    assert (first["step"], first["validation_pass_at_1"]) == (0, 0.5)
    assert rest == [{"step": 5.0, "reward": 1.0}]
    assert report.with_start(rest, {}) == rest
