"""ablations.yaml: what is refused and where the message points; the command of a run."""

from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from astro.ablations.experiment_refs import done, experiments, git, head, ref_of
from astro.ablations.spec import load, plan
from astro.params import plain, read_yaml
from astro.process import UserError

FILE = Path("ablations.yaml")
HEAD = "seeds: [1]\nablations:\n  - {name: default, question: q, set: []}\n"


def one(settings: str, name: str = "other") -> str:
    return f"{HEAD}  - name: {name}\n    question: q\n    set: [{settings}]\n"


def test_the_shipped_file_gives_valid_params():
    planned = plan(Path(__file__).resolve().parents[2] / "ablations.yaml")
    assert planned[0].name == "default-s1"
    assert len({p.name for p in planned}) == len(planned) > 30


def test_runs_go_seed_by_seed(repository):
    assert [p.name for p in plan(FILE)] == ["default-s1", "reflection-off-s1", "default-s2", "reflection-off-s2"]
    assert [p.name for p in plan(FILE, only=["reflection-off"], seeds=[7, 7])] == ["reflection-off-s7"]


def test_command_and_params_of_a_run(repository):
    run = plan(FILE, only=["reflection-off"], seeds=[3])[0]
    assert run.command == "dvc exp run --name reflection-off-s3 -S linearize.reflection=false -S run.seed=3"
    assert (run.params["run"]["seed"], run.params["linearize"]["reflection"]) == (3, False)


def test_one_arm_can_be_trained_otherwise(repository):
    FILE.write_text(one("+arms.astro.sft.lora.enabled=true, +arms.astro.sft.lr=2e-3"))
    run = plan(FILE, only=["other"])[0]
    assert run.params["arms"]["astro"]["sft"] == {"lora": {"enabled": True}, "lr": 2e-3}
    assert run.params["arms"]["direct"]["sft"] == {}
    apply_overrides("params.yaml", run.ablation.set)  # as `dvc exp run -S` does
    assert plain(read_yaml(Path("params.yaml")))["arms"] == run.params["arms"]


# text of the file, parts of the message
BAD = [
    ("", ["expected sections"]),
    ("seeds: [1\n", ["invalid YAML"]),
    ("seeds: [1]\n", ["ablations", "required"]),
    (HEAD + "more: 1\n", ["line 4", "more: unknown key"]),
    (HEAD.replace("[1]", "[]"), ["line 1", "seeds"]),
    (HEAD.replace("[1]", "[1, 1]"), ["seeds occur twice: 1"]),
    (HEAD.replace("[1]", "['1']"), ["line 1", "seeds.0", "integer"]),
    (HEAD.replace("[1]", "[-1]"), ["run.seed", "greater than or equal to 0"]),
    (HEAD.replace("default", "first"), ["must be named 'default'"]),
    (HEAD.replace("set: []", "set: [sft.lr=0.1]"), ["must be named 'default'", "set nothing"]),
    (one("sft.lr=0.1", name="default"), ["names occur twice: default"]),
    (one("sft.lr=0.1", name="Not_So"), ["line 4", "ablations.1.name", "'Not_So'"]),
    (HEAD.replace("question: q", "question: ''"), ["ablations.0.question"]),
    (one("sft.lr=0.1") + "    sets: []\n", ["line 7", "sets: unknown key"]),
    (one("linearize.reflexion=false"), ["line 4", "ablation other", "no parameter 'linearize.reflexion'"]),
    (one("linearise.reflection=false"), ["no parameter 'linearise.reflection'"]),
    (one("mcts.iterations=3"), ["no parameter 'mcts.iterations'; mcts.iterations is now mcts.num_simulations"]),
    (one("run.domain=math"), ["no parameter 'run.domain'; run.domain is now run.task"]),
    (one("sft.lr.deep=1"), ["no parameter 'sft.lr.deep'"]),
    (one("sft.lora=1"), ["sft.lora is a section"]),
    (one("sft.lr"), ["not a key=value"]),
    (one("+sft.lr=1"), ["expected exactly one key=value"]),
    (one("+arms.astro.sft.learning_rate=1"), ["the resulting parameters are invalid", "learning_rate"]),
    (one("+arms.masked.sft.lr=1"), ["the resulting parameters are invalid", "masked"]),
    (one("+arms.astro.sft.lr=1, arms.astro.sft.lr=2"), ["set twice"]),
    (one('"+arms.astro.sft={lr: 1}"'), ["arms.astro.sft has a value already; leave out the +"]),
    (one("+arms.astro.sft.lr=1, +arms.astro.sft.lr.deep=1"), ["no parameter 'arms.astro.sft.lr.deep'"]),
    (one("arms.astro.sft.lr=1"), ["no parameter 'arms.astro.sft.lr'", "+arms.astro.sft.lr"]),
    (one('"sft.lr=0.1,0.2"'), ["expected exactly one key=value"]),
    (one("sft.lr=0.1, sft.lr=0.2"), ["set twice"]),
    (one("run.seed=4"), ["set by the runner"]),
    (one("sft.lr=fast"), ["the resulting parameters are invalid", "sft.lr", "'fast'"]),
    (one("linearize.jump=up"), ["linearize.jump", "'up'"]),
    (one("linearize.max_backtracks=0"), ["max_backtracks 0 leaves only direct solutions"]),
]


@pytest.mark.parametrize(("text", "parts"), BAD)
def test_a_fault_is_refused_and_named(text, parts, repository):
    FILE.write_text(text)
    with pytest.raises(UserError) as caught:
        plan(FILE)
    assert [part for part in ["ablations.yaml", *parts] if part not in str(caught.value)] == []


def test_unknown_names_and_missing_files(repository):
    with pytest.raises(UserError, match="unknown ablation reflexion-off; available: default, reflection-off"):
        plan(FILE, only=["reflexion-off"])
    with pytest.raises(UserError, match=r"nowhere\.yaml: No such file"):
        load(Path("nowhere.yaml"))


def test_a_run_is_done_when_its_params_are_the_wanted(repository):
    first, _, second, _ = plan(FILE)  # params.yaml says seed 1
    rev = head()
    assert done(first, {}) is None
    assert done(first, {first.name: rev}) == rev
    assert done(second, {second.name: rev}) is None  # another seed than it says

    git("update-ref", ref_of(rev, first.name), rev)
    assert experiments(rev) == {first.name: rev}
    assert experiments("0" * 40) == {}  # another commit's experiments are not ours
