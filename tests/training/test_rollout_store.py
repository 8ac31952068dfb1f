"""The rollouts of RL: all of them, once, over kills; bounded; and kept when a step fails."""

import errno
import gzip
import shutil

import pytest

from astro.process import UserError
from astro.training import rollout_store
from astro.training.rollout_store import FOLDER, RolloutWriter, read_shard, shards, step_of
from schemas.records import Chain
from schemas.rollouts import RlRollout
from tests.training.grpo_world import PROBLEMS, EvenSum, run

VALIDATED = {"problems": 4, "every": 2, "samples": 2, "margin": 0.0, "patience": 0}
WATCHED = {
    "problems": PROBLEMS[:8],
    "held_out": PROBLEMS[8:],
    "rollouts_mb": 10.0,
    "keep": "best",
    "refills": 2,
    "validation": VALIDATED,
    "steps": 6,
}


def files(work):
    return {p.name: p.read_bytes() for p in shards(work / FOLDER)}


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """(work folder, trainer, curve, what MLflow is given) of six steps with validation and dynamic sampling."""
    work, logged = tmp_path_factory.mktemp("uncut"), []
    trainer, curve = run(work, log=lambda row, step: logged.append((step, row)), **WATCHED)
    return work, trainer, curve, logged


def test_every_completion_is_kept_as_it_was_rewarded(uncut):
    work, _, curve, _ = uncut
    found = [row for path in shards(work / FOLDER) for row in read_shard(path)]
    train = [row for row in found if row.set == "train"]
    for point in curve:
        rows = [row for row in train if row.step == point["step"]]
        used = [row for row in rows if row.used]
        assert len(used) == 16
        assert len(rows) == 16 + 4 * point["groups_dropped"]
        assert sum(row.tokens for row in rows) == point["sampled_tokens"]
        assert sum(row.reward for row in used) / 16 == pytest.approx(point["reward"], abs=1e-6)
        assert sum(row.tokens for row in used) / 16 == pytest.approx(point["length"], abs=1e-6)
        assert sum(not row.finished for row in used) / 16 == pytest.approx(point["truncated"], abs=1e-6)
        assert sorted({row.number for row in used}) == [0, 1, 2, 3]
        assert {row.problem_id for row in rows} <= {p.id for p in PROBLEMS[:8]}
    problems = {p.id: p for p in PROBLEMS}
    answers = EvenSum().grade_many([problems[row.problem_id] for row in found], [row.text for row in found])
    assert answers == [(row.answer, row.verdict) for row in found]
    chains = EvenSum().parse_many([problems[row.problem_id] for row in found], [row.text for row in found])
    assert chains == [row.chain for row in found]


def test_the_rollouts_of_validation_are_the_same_problems_at_each_step(uncut):
    work, _, _, _ = uncut
    measured = {step_of(p): list(read_shard(p)) for p in shards(work / FOLDER) if p.name.startswith("validation")}
    assert sorted(measured) == [0, 2, 4, 6]
    for rows in measured.values():
        assert [(row.problem_id, row.number) for row in rows] == [(p.id, n) for p in PROBLEMS[8:] for n in (0, 1)]
        assert all(row.reward is None for row in rows)


@pytest.mark.parametrize("lost", [(6,), (4, 6), (2, 4, 6)], ids=lambda lost: f"checkpoints {lost}")
def test_a_run_that_was_killed_keeps_each_rollout_once_and_loses_none(uncut, tmp_path, lost):
    """What lies there of later steps is of the killed run: it is removed, and written again by the resumed one."""
    work, trainer, curve, _ = uncut
    shutil.copytree(work, tmp_path / "x")
    for step in lost:
        shutil.rmtree(tmp_path / f"x/checkpoint-{step}", ignore_errors=True)
    for path in shards(tmp_path / "x" / FOLDER):
        if step_of(path) > 6 - 2 * len(lost):
            path.write_bytes(b"of the killed run")
    (tmp_path / "x" / FOLDER / ".train-000006.jsonl.gz.1.tmp").write_bytes(b"half a shard")
    again, resumed = run(tmp_path / "x", **WATCHED)
    assert resumed == curve
    assert files(tmp_path / "x") == files(work)
    assert measured(again) == measured(trainer)


def measured(trainer):
    return [entry for entry in trainer.state.log_history if "validation" in entry]


def test_the_same_run_gives_the_same_bytes_and_none_without_room(uncut, tmp_path):
    _, curve = run(tmp_path / "x", **WATCHED | {"rollouts_mb": 0.0})
    assert curve == uncut[2]
    assert not (tmp_path / "x" / FOLDER).exists()


def test_a_small_bound_thins_the_steps_of_training_and_is_kept_over_a_kill(uncut, tmp_path):
    whole = files(uncut[0])
    limit = sum(map(len, whole.values())) * 0.75 / 1e6
    run(tmp_path / "x", **WATCHED | {"rollouts_mb": limit})
    thin = files(tmp_path / "x")
    assert 0 < sum(map(len, thin.values())) <= limit * 1e6
    assert thin.items() < whole.items()
    assert {n for n in whole if n.startswith("validation")} <= set(thin)
    assert [step_of(p) for p in shards(tmp_path / "x" / FOLDER) if p.name.startswith("train")] == [1, 3, 5]
    for step in (4, 6):
        shutil.rmtree(tmp_path / f"x/checkpoint-{step}", ignore_errors=True)
    run(tmp_path / "x", **WATCHED | {"rollouts_mb": limit})
    assert files(tmp_path / "x") == thin


def row(step, text="x", kind="train"):
    empty = Chain(nodes=[], back_edges=[], attempts=[], repeats=0, unparsed=0)
    return RlRollout(
        set=kind, step=step, problem_id="p", number=0, prefix="", text=text, tokens=1, finished=True, answer=None,
        verdict="wrong", reward=-1.0, used=True, chain=empty,
    )  # fmt: skip


def test_what_does_not_fit_at_all_is_left_out_and_said_once(tmp_path, capsys):
    writer = RolloutWriter(tmp_path, limit_mb=0.0001)
    for step in (1, 2, 3):
        writer.write("train", step, [row(step, text="".join(map(str, range(500))))])
    assert shards(tmp_path) == []
    assert capsys.readouterr().out.count("execution.rollouts_mb is used up") == 1


# --- a step that fails ------------------------------------------------------------------------------------------------


def test_a_reward_that_is_no_number_stops_and_leaves_the_rollouts_of_the_step(tmp_path):
    with pytest.raises(
        UserError, match=r"grpo: step 1: the reward of a completion of p\d+ is nan.*rollouts of the step"
    ):
        run(tmp_path, reward_correct=float("nan"), rollouts_mb=10.0)
    (path,) = shards(tmp_path / FOLDER)
    assert gzip.decompress(path.read_bytes()).count(b'"reward":') == 16
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_loss_that_is_not_finite_says_where_the_rollouts_are(tmp_path):
    with pytest.raises(UserError, match=r"grpo: step (\d): .* its rollouts are in \S+rollouts") as caught:
        run(tmp_path, lr=1e20, save_every=1, steps=6, rollouts_mb=10.0)
    step = int(str(caught.value).partition("step ")[2][0])
    assert {step_of(p) for p in shards(tmp_path / FOLDER)} >= set(range(1, step + 1)) - {0}


def test_a_full_disk_is_one_clear_line_and_the_run_resumes(uncut, tmp_path, monkeypatch):
    real = rollout_store.atomic_path

    def full(target):
        if target.name == "train-000005.jsonl.gz":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(target)

    with monkeypatch.context() as patch:
        patch.setattr(rollout_store, "atomic_path", full)
        with pytest.raises(UserError, match=r"train-000005\S+: the rollouts of step 5 .*No space.*rollouts_mb"):
            run(tmp_path, **WATCHED)
    assert "train-000005.jsonl.gz" not in files(tmp_path)
    _, curve = run(tmp_path, **WATCHED)
    assert curve == uncut[2]
    assert files(tmp_path) == files(uncut[0])


# --- beside the run ---------------------------------------------------------------------------------------------------


def test_they_are_published_with_their_problems_and_old_runs_are_pruned(uncut, tmp_path):
    for number in range(rollout_store.KEPT_RUNS + 2):
        target = rollout_store.home_of(tmp_path, "grpo", f"{number:032x}")
        rollout_store.publish(uncut[0], target, PROBLEMS)
    kept = list((tmp_path / FOLDER / "grpo").iterdir())
    assert len(kept) == rollout_store.KEPT_RUNS
    assert target in kept
    assert {p.name: p.read_bytes() for p in shards(target)} == files(uncut[0])
    assert list(rollout_store.read_problems(target).values()) == PROBLEMS


def test_a_cut_shard_is_named(tmp_path):
    path = tmp_path / "train-000001.jsonl.gz"
    path.write_bytes(gzip.compress(row(1).model_dump_json().encode() + b"\n")[:-9])
    with pytest.raises(UserError, match=r"train-000001.jsonl.gz: damaged gzip file"):
        list(read_shard(path))
    path.write_bytes(gzip.compress(b'{"step": "one"}\n'))
    with pytest.raises(UserError, match=r"train-000001.jsonl.gz, line 1: field"):
        list(read_shard(path))


SHARD = gzip.compress("".join(row(1, text=str(n) * 50).model_dump_json() + "\n" for n in range(30)).encode(), mtime=0)


def flipped(place):
    changed = bytearray(SHARD)
    changed[place] ^= 0xFF
    return bytes(changed)


# gzip writes the time into its header: without mtime=0 two workers would collect different tests
DAMAGED = {
    # nothing was written before the machine stopped, or only zeros
    "empty": b"",
    "zeros": bytes(200),
    "no rows": gzip.compress(b"", mtime=0),
    "an empty row": gzip.compress(b"\n", mtime=0),
    **{f"cut at {n}": SHARD[:n] for n in (1, 9, len(SHARD) // 2, len(SHARD) - 1)},
    "other bytes at the end": SHARD + b"xyz",
    "not compressed": b"hello",
    # in the header, the stream, the check sum
    **{f"flipped at {n}": flipped(n) for n in (0, 12, 60, 150, len(SHARD) - 6, len(SHARD) - 2)},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_whatever_damages_a_shard_is_one_line_with_its_name_and_a_remedy(tmp_path, content):
    path = tmp_path / "validation-000004.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"validation-000004.jsonl.gz: [^\n]*; remove the file") as caught:
        list(read_shard(path))
    assert "\n" not in str(caught.value)


def test_a_damaged_shard_before_the_checkpoint_is_told_when_a_run_resumes_and_not_after_it(uncut, tmp_path):
    """Removed as the message says, it is the only one that lacks in the end; one after the checkpoint is written again."""
    work, _, curve, _ = uncut
    shutil.copytree(work, tmp_path / "x")
    shutil.rmtree(tmp_path / "x/checkpoint-6")
    for name in ("train-000003.jsonl.gz", "train-000005.jsonl.gz"):
        (tmp_path / "x" / FOLDER / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"train-000003\S+: contains no rollouts.*remove the file.*after step 4"):
        run(tmp_path / "x", **WATCHED)
    assert (tmp_path / "x/checkpoint-4").is_dir()
    (tmp_path / "x" / FOLDER / "train-000003.jsonl.gz").unlink()
    _, resumed = run(tmp_path / "x", **WATCHED)
    assert resumed == curve
    whole = files(work)
    del whole["train-000003.jsonl.gz"]
    assert files(tmp_path / "x") == whole


@pytest.mark.parametrize(
    "text", ["", "[]", '{"stri', '{"stride": "x"}', '{"stride": 0}', '{"stride": -2}', '{"stride": null}', "{}"]
)
def test_a_damaged_state_of_the_writer_is_named(tmp_path, text):
    (tmp_path / rollout_store.STATE).write_text(text)
    with pytest.raises(UserError, match=r"state.json: .*remove the file, and run `dvc repro`"):
        RolloutWriter(tmp_path, limit_mb=1.0)
