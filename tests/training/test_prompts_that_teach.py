"""Dynamic sampling, the curriculum, and the message where groups give no gradient."""

from collections import Counter

import pytest

from astro.tasks.countdown.task import Countdown
from astro.training.curriculum import easy_first
from astro.training.grpo import WatchGradient
from astro.training.rollout_store import FOLDER, read_shard, shards
from schemas.records import Problem
from tests.training.grpo_world import PROBLEMS, SETTINGS, EvenSum, run


class Taught(EvenSum):
    """Only the last four problems have completions of both kinds; the others are right whatever is written."""

    def grade_many(self, problems, texts):
        both = {p.id for p in PROBLEMS[8:]}
        found = super().grade_many(problems, texts)
        return [g if p.id in both else ("x", "correct") for p, g in zip(problems, found, strict=True)]


def rows_of(work):
    return [row for path in shards(work / FOLDER) for row in read_shard(path)]


# --- dynamic sampling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeded", [True, False])
def test_groups_of_equal_rewards_are_replaced_by_prompts_that_teach(tmp_path, seeded):
    """Twelve problems of which four teach: after enough rounds a step of four has no other."""
    _, off = run(tmp_path / "off", task=Taught(), seeded=seeded)
    _, curve = run(tmp_path / "on", task=Taught(), seeded=seeded, refills=12, rollouts_mb=9.0)
    assert sum(row["zero_variance"] for row in curve) < sum(row["zero_variance"] for row in off) / 2
    rows = rows_of(tmp_path / "on")
    for point in curve:
        step = [row for row in rows if row.step == point["step"]]
        dropped = [row for row in step if not row.used]
        groups = Counter(row.problem_id for row in step)
        assert set(groups.values()) == {4}, "no prompt comes twice in a step"
        assert point["groups_dropped"] == len(dropped) / 4
        assert point["sampled_tokens"] == sum(row.tokens for row in step)
        assert point["sampled_accuracy"] == pytest.approx(sum(r.reward == 1.0 for r in step) / len(step))
        flat = sum(len({row.reward for row in step if row.problem_id == group}) == 1 for group in groups)
        assert point["flat_groups"] == pytest.approx(flat / len(groups))
        assert point["zero_variance"] == 0 or len(groups) == len(PROBLEMS), "all were tried"


def test_the_rounds_are_bounded_and_flat_groups_fill_the_step(tmp_path):
    """Nothing teaches here: after two rounds the step goes on with what it has."""

    class Right(Countdown):
        def grade_many(self, problems, texts):
            return [("x", "correct") for _ in texts]

    _, curve = run(tmp_path, task=Right(), refills=2, rollouts_mb=9.0, steps=2)
    for point in curve:
        assert point["zero_variance"] == 1.0
        assert point["groups_dropped"] == 8  # two rounds of four, of the twelve problems there are
        assert point["flat_groups"] == 1.0
        assert point["loss"] == 0.0
        assert sum(row.used for row in rows_of(tmp_path) if row.step == point["step"]) == 16


def test_no_more_prompts_end_the_rounds(tmp_path):
    _, curve = run(tmp_path, task=Taught(), refills=50, problems=PROBLEMS[:5], steps=1)
    assert curve[0]["groups_dropped"] <= 1


def test_without_refills_nothing_is_counted(tmp_path):
    _, curve = run(tmp_path, steps=1)
    assert not {"groups_dropped", "flat_groups", "sampled_tokens", "sampled_accuracy"} & set(curve[0])


# --- curriculum -------------------------------------------------------------------------------------------------------


def problems(count):
    return [
        Problem(id=f"q{i}", task="countdown", question=f"make {i + 5} from 3 8 1", gold="1", level=3, chance=None)
        for i in range(count)
    ]


# problems, batches, prompts in each
SIZES = [(20, 5, 4), (20, 3, 4), (20, 40, 4), (21, 33, 4), (4, 10, 4), (9, 7, 2), (100, 300, 16), (17, 18, 16)]


@pytest.mark.parametrize(("count", "batches", "per_batch"), SIZES)
def test_easy_prompts_come_first(count, batches, per_batch):
    given = problems(count)
    rates = {p.id: (i * 7 % count) / count for i, p in enumerate(given)}
    made = easy_first(given, rates, batches=batches, per_batch=per_batch, seed=1)
    assert len(made) == batches * per_batch
    each = [made[i : i + per_batch] for i in range(0, len(made), per_batch)]
    assert all(len({p.id for p in batch}) == per_batch for batch in each), "no batch has a problem twice"
    mean = [sum(rates[p.id] for p in batch) / per_batch for batch in each]
    third = max(1, len(mean) // 3)
    if count > per_batch * 2:
        assert sum(mean[:third]) > sum(mean[-third:])
    times = Counter(p.id for p in made)
    if batches * per_batch <= count:
        assert set(times.values()) == {1}
        assert mean == sorted(mean, reverse=True)
    assert made == easy_first(given, rates, batches=batches, per_batch=per_batch, seed=1)
    if batches * per_batch != count:  # else all come, and no two have the same rate
        assert made != easy_first(given, rates, batches=batches, per_batch=per_batch, seed=2)


def test_the_trainer_takes_the_prompts_in_their_order(tmp_path):
    ordered = [*PROBLEMS[6:], *PROBLEMS[:6], *PROBLEMS[:4]]
    _, curve = run(tmp_path, problems=ordered, curriculum="easy_first", rollouts_mb=9.0)
    assert len(curve) == 4
    taken = [row.problem_id for row in rows_of(tmp_path)][::4]
    assert taken == [p.id for p in ordered]


# --- the message ------------------------------------------------------------------------------------------------------


def said(capsys, steps, last=40, **changes):
    """What is printed over logged steps: (share of flat groups, reward, share cut). last: the last step of the run."""

    class State:
        global_step, max_steps, is_world_process_zero = 0, last, True

    watch, state = WatchGradient(SETTINGS | changes, label="grpo"), State()
    for flat, reward, cut in steps:
        state.global_step += 1
        logs = {"frac_reward_zero_std": flat, "reward": reward, "completions/clipped_ratio": cut}
        watch.on_log(None, state, None, logs=logs)
    return capsys.readouterr().out.splitlines()


# logged steps, words of the message; "": none
MESSAGES = [
    # a few flat groups are as it should be; a short time says nothing
    ([(0.3, 0.0, 0.0)] * 40, ""),
    ([(1.0, -1.0, 0.0)] * 4, ""),
    # one flat step among others
    ([(1.0, -1.0, 0.0), *[(0.2, 0.0, 0.0)] * 10], ""),
    # nothing was learned: all wrong, all right
    ([(1.0, -1.0, 0.0)] * 5, "so nothing was learned; most completions are wrong, so use easier problems"),
    ([(1.0, 1.0, 0.0)] * 5, "most completions are right, so use harder problems, or lower grpo.pass_rate.high"),
    # many flat groups
    ([(0.75, -0.9, 0.1)] * 5, "75% of the groups in steps 1 to 5 had equal rewards"),
    ([(0.75, -0.9, 0.8)] * 5, "80% are cut, so raise grpo.max_completion_length first"),
    # one step of which no reward is known
    ([(1.0, -1.0, 0.0)] * 4 + [(1.0, None, 0.0)], "nothing was learned; most completions are wrong"),
]


@pytest.mark.parametrize(("steps", "words"), MESSAGES)
def test_what_is_said_of_groups_without_a_gradient(capsys, steps, words):
    lines = said(capsys, steps)
    assert len(lines) == bool(words)
    if words:
        assert lines[0].startswith("[grpo] warning: ")
        assert words in lines[0]
        assert "grpo.refills" in lines[0]
        assert "grpo.group_size" in lines[0]


def test_the_remedy_is_none_that_is_there_already(capsys):
    (line,) = said(capsys, [(1.0, -1.0, 0.0)] * 5, refills=3)
    assert "refills above 0" not in line
    assert "grpo.refills 3 found no better groups" in line


def test_references_that_cannot_be_read_are_not_called_wrong_completions(capsys):
    (line,) = said(capsys, [(1.0, None, 0.0)] * 5)
    assert "no reference answer of these prompts can be read" in line
    assert "wrong" not in line
    (line,) = said(capsys, [(1.0, None, 0.0)] * 4 + [(1.0, -1.0, 0.0)])
    assert "most completions are wrong" in line


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        # a run of a few steps in which nothing was learned; one in which something was; one that goes on
        ([(1.0, -1.0, 0.0)] * 3, "in steps 1 to 3 the rewards of each group were all equal, so nothing was learned"),
        ([(1.0, 1.0, 0.0)], "in step 1 the rewards of each group were all equal"),
        ([(1.0, -1.0, 0.0), (0.9, -1.0, 0.0)], ""),
    ],
)
def test_a_run_shorter_than_the_window_that_learned_nothing_is_told(capsys, steps, words):
    lines = said(capsys, steps, last=len(steps))
    assert [words in line for line in lines] == [True] * bool(words)


def test_it_is_not_said_at_every_step(capsys):
    assert len(said(capsys, [(1.0, -1.0, 0.0)] * 60)) == 3


def test_rewards_that_are_all_equal_are_told_of_in_a_real_run(tmp_path, capsys):
    class Wrong(Countdown):
        def grade_many(self, problems, texts):
            return [(None, "wrong") for _ in texts]

    run(tmp_path, task=Wrong(), steps=6)
    assert capsys.readouterr().out.count("in steps 1 to 5 the rewards of each group were all equal") == 1


def test_steps_of_which_no_reference_can_be_read_teach_nothing_and_end_nothing(tmp_path, capsys):
    """Every reward is unknown: no number for TRL to log, and none for the curve."""

    class Unread(Countdown):
        def grade_many(self, problems, texts):
            return [(None, "unparseable_gold") for _ in texts]

    trainer, curve = run(tmp_path, task=Unread(), steps=6, rollouts_mb=9.0, refills=1)
    assert not any("reward" in row for row in curve)
    assert trainer.state.global_step == 6
    assert {row.reward for row in rows_of(tmp_path)} == {None}
    assert "nothing was learned" in capsys.readouterr().out
