"""Profiles: overlays that are checked before they are written, keep comments, and do not stack."""

import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from astro import profiles
from astro.params import PARAMS_FILE, load_params, validate
from astro.process import UserError
from astro.tasks import get_task

SHIPPED = sorted(p.stem for p in Path("profiles").glob("*.yaml"))
PARAMS = Path("params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with a committed params.yaml and the shipped profiles; it is the working folder."""
    (tmp_path / "profiles").mkdir()
    for path in Path("profiles").glob("*.yaml"):
        (tmp_path / "profiles" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return tmp_path


def write_profile(folder, text, name="mine"):
    (folder / "profiles" / f"{name}.yaml").write_text(text)
    return name


def test_there_are_profiles():
    assert {"default", "smoke"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_validates(repository, name):
    profiles.apply(name)
    load_params()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_world_of_every_shipped_profile_has_as_many_problems_as_it_asks_for(name):
    content = YAML(typ="rt").load(profiles.merged(profiles.find(name), PARAMS))
    params = validate(content, PARAMS_FILE)
    if params.problems.source != "generated":
        pytest.skip("its problems are in files that do not ship")
    sets, _ = get_task(params.run.spec).make_sets(params.problems, params.run.seed)
    assert len(sets["rl"]) == params.problems.rl
    assert len(sets["train"]) == params.problems.train


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_is_described_in_its_first_line(name):
    first = (Path("profiles") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


def test_a_profile_changes_what_it_names_and_nothing_else(repository):
    write_profile(repository, "mcts:\n  num_actions: 7\nengine:\n  vllm:\n    block_size: 64\n")
    before = load_params().model_dump()
    profiles.apply("mine")
    after = load_params().model_dump()
    assert after["mcts"]["num_actions"] == 7
    assert after["engine"]["vllm"]["block_size"] == 64
    after["mcts"]["num_actions"], after["engine"]["vllm"]["block_size"] = (
        before["mcts"]["num_actions"],
        before["engine"]["vllm"]["block_size"],
    )
    assert after == before


def test_free_mappings_are_replaced_and_not_merged(repository):
    write_profile(repository, "problems:\n  eval:\n    only:\n      level: 2\n      size: 5\n  levels:\n    '2': 1.0\n")
    profiles.apply("mine")
    problems = load_params().problems
    assert set(problems.eval) == {"only"}
    assert problems.levels == {"2": 1.0}


def test_comments_and_order_stay(repository):
    write_profile(repository, "mcts:\n  prior: uniform\n  num_actions: 7\n")
    profiles.apply("mine")
    old, new = PARAMS.splitlines(), PARAMS_FILE.read_text(encoding="utf-8").splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert [a.split(":")[0].strip() for a, _ in changed] == ["num_actions", "prior"]
    assert [a.partition("#")[2] for a, _ in changed] == [b.partition("#")[2] for _, b in changed]
    assert changed[1][1].partition("#")[2]  # the line of prior does have a comment


def test_the_default_profile_is_the_committed_file_byte_for_byte(repository):
    profiles.apply("default")
    assert PARAMS_FILE.read_text(encoding="utf-8") == PARAMS


def test_profiles_do_not_stack(repository):
    write_profile(repository, "mcts:\n  num_actions: 7\n", "one")
    write_profile(repository, "mcts:\n  num_simulations: 3\n", "two")
    profiles.apply("one")
    assert profiles.apply("two") != ""
    assert (load_params().mcts.num_actions, load_params().mcts.num_simulations) != (7, 3)
    assert load_params().mcts.num_simulations == 3
    profiles.apply("default")
    assert PARAMS_FILE.read_text(encoding="utf-8") == PARAMS


def test_the_difference_is_told(repository):
    write_profile(repository, "mcts:\n  num_actions: 7\n")
    shown = profiles.apply("mine")
    assert "+  num_actions: 7" in shown
    assert "params.yaml (mine)" in shown
    assert profiles.apply("mine") == ""  # applied again, nothing changes


def test_without_a_commit_the_file_as_it_is_counts(tmp_path, monkeypatch):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write_profile(tmp_path, "mcts:\n  num_actions: 7\n")
    profiles.apply("mine")
    assert load_params().mcts.num_actions == 7


FAULTS = {
    # what is wrong: (the profile, parts of the message)
    "an unknown key": (
        "# mine\nmcts:\n  num_actions: 3\n  kk: 4\n",
        ["mine.yaml, line 4", "mcts.kk", "unknown parameter"],
    ),
    "a former name": ("mcts:\n  prior: token\n  k: 3\n", ["mine.yaml, line 3", "mcts.k is now mcts.num_actions"]),
    "an unknown section": ("mtcs:\n  num_actions: 3\n", ["mine.yaml, line 1", "mtcs", "unknown parameter"]),
    "an unknown key far down": (
        "engine:\n  vllm:\n    block: 3\n",
        ["mine.yaml, line 3", "engine.vllm.block", "unknown parameter"],
    ),
    "a value out of range": (
        "mcts:\n  num_actions: 0\n",
        ["mine.yaml", "mcts.num_actions", "greater than or equal to 1", "got 0"],
    ),
    "values that do not fit together": ("eval:\n  majority: 99\n", ["mine.yaml", "eval", "majority 99"]),
    "a value where a section is": ("mcts: 3\n", ["mine.yaml", "mcts"]),
    "a section where a value is": ("mcts:\n  num_actions:\n    a: 1\n", ["mine.yaml", "mcts.num_actions"]),
    "no YAML": ("mcts: [", ["mine.yaml", "invalid YAML"]),
    "an empty file": ("", ["mine.yaml", "expected sections"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_profile_is_refused_and_nothing_is_written(repository, name):
    text, parts = FAULTS[name]
    write_profile(repository, text)
    with pytest.raises(UserError) as caught:
        profiles.apply("mine")
    assert [part for part in parts if part not in str(caught.value)] == []
    assert PARAMS_FILE.read_text(encoding="utf-8") == PARAMS


def test_an_unknown_profile_is_refused_with_those_there_are(repository):
    with pytest.raises(UserError, match=r"unknown profile 'smok'; available: default.*smoke"):
        profiles.apply("smok")


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "arms.yaml"])
def test_the_check_names_a_merge_that_is_not_finished(repository, monkeypatch, name):
    """DVC would speak of a missing ':'. `make run` asks this first."""
    monkeypatch.setattr("sys.argv", ["astro.profiles", "check"])
    profiles.main()
    (repository / name).write_text("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> other\n")
    with pytest.raises(UserError, match=f"^{name}, line 2: unfinished merge"):
        profiles.main()


def test_an_unknown_key_is_told_with_the_nearest(repository):
    write_profile(repository, "mcts:\n  num_simulation: 3\n")
    with pytest.raises(
        UserError, match=r"mcts\.num_simulation: unknown parameter; the nearest is mcts\.num_simulations"
    ):
        profiles.apply("mine")
