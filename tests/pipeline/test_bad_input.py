"""What a user can get wrong, and what a machine can: each ends with one clear message and leaves nothing half-written.

The stages run for real, in small folders of their own, without MLflow (ASTRO_TRACKING=off) and without an engine.
"""

import fcntl
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from astro.files import read_jsonl, write_jsonl
from astro.profiles import merged
from schemas.records import Problem, Tree
from tests.pipeline.checkout import REPOSITORY, Checkout, environment, unpacked
from tests.tiny_chat import write_tiny_chat

CODE = ("astro", "schemas", "stages", "phrases", "profiles", "dvc.yaml", "arms.yaml")


@pytest.fixture(scope="module")
def params() -> str:
    """The text of params.yaml with the smoke profile."""
    return merged(REPOSITORY / "profiles/smoke.yaml", (REPOSITORY / "params.yaml").read_text())


@pytest.fixture
def workspace(params: str, tmp_path: Path) -> Checkout:
    """The project's code (linked) and the params of the smoke profile; no git, no DVC, no data."""
    for name in CODE:
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "params.yaml").write_text(params)
    return Checkout(tmp_path, environment(ASTRO_TRACKING="off"), warm=True)


def problem(number: int) -> Problem:
    return Problem(id=f"p{number}", task="countdown", question="make 9 from 4 5", gold="9", level=2, chance=0.2)


def fails(done, pattern: str) -> str:
    """The message of a command that must end with exit code 2 and one message that matches, without a trace."""
    assert done.code == 2, done
    assert "Traceback" not in done.err + done.out, done
    assert len(re.findall(r"^error: ", done.err, re.MULTILINE)) == 1, done
    message = done.err[done.err.index("error: ") :]
    assert re.search(pattern, message), f"{message!r} does not match {pattern!r}"
    return message


def leftovers(root: Path) -> list[str]:
    """What stands where a later stage, or DVC, would read it."""
    folders = [root / name for name in ("data", "models", "metrics", "records") if (root / name).exists()]
    return sorted(str(p.relative_to(root)) for folder in folders for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------------------------------------------------- params.yaml


def edit(old: str, new: str) -> Callable[[str], str]:
    """Replaces the one place where `old` stands."""

    def change(text: str) -> str:
        assert text.count(old) == 1, old
        return text.replace(old, new)

    return change


PARAMS = [
    # a misspelled name
    (
        edit("  traces_per_tree:", "  trace_per_tree:"),
        r"params\.yaml, line \d+: linearize\.trace_per_tree: unknown parameter",
    ),
    # a section too much
    (lambda text: text + "mtcs:\n  num_actions: 3\n", r"params\.yaml, line \d+: mtcs: unknown parameter"),
    # below its bound
    (
        edit("\n  num_actions: 4", "\n  num_actions: 0"),
        r"params\.yaml, line \d+: mcts\.num_actions: .*greater than or equal to 1 \(got 0\)",
    ),
    # above its bound
    (
        edit("miss_share: 0.4", "miss_share: 1.4"),
        r"params\.yaml, line \d+: base\.corpus\.miss_share: .*less than 1 \(got 1\.4\)",
    ),
    # the wrong type
    (edit("reflection: true", "reflection: 3"), r"params\.yaml, line \d+: linearize\.reflection: .*boolean \(got 3\)"),
    # a text where a number is meant: what YAML 1.1 makes of 4e-3
    (edit("lr: 0.004", 'lr: "4e-3"'), r"params\.yaml, line \d+: base\.training\.lr: .*number \(got '4e-3'\)"),
    # no such choice
    (
        edit("kind: vllm", "kind: vlm"),
        r"params\.yaml, line \d+: engine\.kind: .*'vllm', 'hf' or 'endpoint' \(got 'vlm'\)",
    ),
    # two values that contradict each other
    (edit("target_max: 24", "target_max: 1"), r"params\.yaml, line \d+: problems: target_min 2 is above target_max 1"),
    # no YAML
    (edit("mcts:", "mcts: ["), r"params\.yaml: invalid YAML"),
    # nothing at all
    (lambda _: "", r"params\.yaml: expected sections"),
]


@pytest.mark.parametrize(("change", "expected"), PARAMS)
def test_bad_params(change: Callable[[str], str], expected: str, workspace: Checkout):
    path = workspace.root / "params.yaml"
    path.write_text(change(path.read_text()))
    fails(workspace.run("python", "-m", "stages.problems", ok=False), expected)
    assert leftovers(workspace.root) == []


def test_missing_params(workspace: Checkout):
    (workspace.root / "params.yaml").unlink()
    fails(workspace.run("python", "-m", "stages.problems", ok=False), r"params\.yaml: No such file")


def test_unknown_profile(workspace: Checkout):
    done = workspace.run("python", "-m", "astro.profiles", "apply", "smok", ok=False)
    fails(done, r"unknown profile 'smok'; available: .*smoke")


# -------------------------------------------------------------------------------------------------------- problem files

GOOD = '{"id": "a", "numbers": [4, 5], "target": 9}'

# content of train.jsonl, message
PROBLEM_FILES = [
    # a line that is no JSON
    ('{"id": "b", "numbers": [4, \n', r"train\.jsonl, line 1: invalid JSON"),
    # a line without its end: an interrupted copy
    ('{"id": "b", "numb', r"train\.jsonl, line 1: .*cut short"),
    # a field is missing
    ('\n\n{"id": "b", "numbers": [4, 6]}\n', r"train\.jsonl, line 3: field 'target': missing"),
    # a misspelled field
    (
        GOOD.replace("target", "goal") + "\n",
        r"train\.jsonl, line 1: field 'target': missing .* the row has: goal, id, numbers",
    ),
    # the wrong type
    ('{"id": "a", "numbers": "4 5", "target": 9}\n', r"train\.jsonl, line 1: field 'numbers': .* got str '4 5'"),
    # empty
    ("", r"train\.jsonl: contains no problem for set 'train'"),
    # no text at all
    (b"\xff\xfe\x00\x01\n", r"train\.jsonl, line 1: text in UTF-16"),
    # not there
    (None, r"train\.jsonl: no such file"),
    # only problems that stand in the eval set
    (
        '{"id": "b", "numbers": [5, 2], "target": 7}\n',
        r"train\.jsonl: set 'train' would be empty, .* in an eval set",
    ),
    # a target that no legal path reaches
    ('{"id": "a", "numbers": [2, 2], "target": 23}\n', r"train\.jsonl: set 'train' would be empty, .*\(1 unreadable\)"),
]


@pytest.mark.parametrize(("content", "expected"), PROBLEM_FILES)
def test_bad_problem_file(content: str | bytes | None, expected: str, workspace: Checkout):
    files = {name: str(workspace.root / f"{name}.jsonl") for name in ("train", "rl", "eval_own")}
    workspace.set_param("problems.source", "files")
    workspace.set_param("problems.files", files)
    Path(files["eval_own"]).write_text('{"id": "e", "numbers": [2, 5], "target": 7}\n')
    Path(files["rl"]).write_text('{"id": "r", "numbers": [3, 5], "target": 8}\n')
    if content is not None:
        Path(files["train"]).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = workspace.run("python", "-m", "stages.problems", ok=False)
    fails(done, expected)
    assert not [p for p in leftovers(workspace.root) if not p.startswith("metrics/gate_")]


# ------------------------------------------------------------------------------------------------------------- upstream


@pytest.mark.slow
def test_base_that_is_no_model(workspace: Checkout):
    (workspace.root / "not_a_model").mkdir()
    (workspace.root / "not_a_model/config.json").write_text("{}")
    workspace.set_param("base.source", "pretrained")
    workspace.set_param("base.pretrained.path", "not_a_model")
    done = workspace.run("python", "-m", "stages.base", ok=False, HF_HUB_OFFLINE="1")
    fails(done, r"base\.pretrained\.path: not_a_model is not a model that transformers can load")
    assert leftovers(workspace.root) == []


@pytest.mark.slow
def test_base_that_is_not_there(workspace: Checkout):
    workspace.set_param("base.source", "pretrained")
    workspace.set_param("base.pretrained.path", "models/llama")
    done = workspace.run("python", "-m", "stages.base", ok=False, HF_HUB_OFFLINE="1")
    fails(done, r"base\.pretrained\.path: models/llama is not a model folder")
    assert leftovers(workspace.root) == []


WARM_UPS = [
    ("quantize", "nf4", r"base\.warmup\.lora\.quantize nf4: bitsandbytes needs a GPU"),
    ("target_modules", "nope", r"base\.warmup\.lora\.target_modules 'nope': pretrained has no such linear layer"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value", "said"), WARM_UPS)
def test_a_warm_up_that_cannot_run_leaves_what_is_there(workspace: Checkout, name, value, said):
    write_tiny_chat(workspace.root / "pretrained", context=1024)
    kept = workspace.root / "models/base_raw/model.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("an earlier one")
    changes = {"base.source": "pretrained", "base.pretrained.path": "pretrained", "base.warmup.steps": 2}
    for parameter, setting in (changes | {"base.warmup.lora.enabled": True, f"base.warmup.lora.{name}": value}).items():
        workspace.set_param(parameter, setting)
    fails(workspace.run("python", "-m", "stages.base", ok=False, CUDA_VISIBLE_DEVICES=""), said)
    assert kept.read_text() == "an earlier one"
    assert leftovers(workspace.root) == ["models/base_raw/model.txt"]


def golden_trees() -> list[Tree]:
    """Three trees of a real search (tests/search/record.py), of a problem that Countdown can read."""
    stored = [json.loads(p.read_text())["tree"] for p in sorted((REPOSITORY / "tests/data").glob("tree_*.json"))]
    for tree in stored:
        tree["problem"]["question"] = "make 24 from 3 8"
    return [Tree.model_validate_json(json.dumps(tree)) for tree in stored]


def give_trees(workspace: Checkout) -> Path:
    """Trees and an eval set, as the stages before linearize leave them; the shard."""
    shard = workspace.root / "data/trees/00000.jsonl"
    write_jsonl(shard, golden_trees())
    write_jsonl(workspace.root / "data/problems/eval/n3.jsonl", [problem(1)])
    return shard


# what became of the shard, message
SHARDS = [
    # cut in the middle of its last line
    (lambda content: content[:-100], r"data/trees/00000\.jsonl, line 3: .*\(the line has no line end, .*\)"),
    # cut in half
    (lambda content: content[: len(content) // 2], r"data/trees/00000\.jsonl, line \d: .*cut short"),
    # a record of another version: a field less
    (
        lambda content: content.replace(b'"iterations"', b'"simulations"', 1),
        r"00000\.jsonl, line 1: field 'iterations'",
    ),
    # a parent that comes later
    (
        lambda content: content.replace(b'"parent":0', b'"parent":900', 1),
        r"00000\.jsonl, line 1: .*expected an earlier node",
    ),
]


@pytest.mark.parametrize(("damage", "expected"), SHARDS)
def test_damaged_tree_shard(damage: Callable[[bytes], bytes], expected: str, workspace: Checkout):
    shard = give_trees(workspace)
    content = shard.read_bytes()
    assert damage(content) != content
    shard.write_bytes(damage(content))
    before = leftovers(workspace.root)
    fails(workspace.run("python", "-m", "stages.linearize", ok=False), expected)
    assert leftovers(workspace.root) == before


def test_no_trees(workspace: Checkout):
    fails(workspace.run("python", "-m", "stages.linearize", ok=False), r"data/trees: contains no \.jsonl file")


def test_missing_phrase_file(workspace: Checkout):
    give_trees(workspace)
    workspace.set_param("linearize.phrase_file", "phrases/klingon.yaml")
    done = workspace.run("python", "-m", "stages.linearize", ok=False)
    fails(done, r"linearize\.phrase_file: phrases/klingon\.yaml: No such file")


# content of the phrase file, message
PHRASES = [
    ("reflection: [wait]\nreturn_step: [back]\n", r"own\.yaml: field 'return_root': Field required"),
    ("reflection: []\nreturn_step: [a]\nreturn_root: [b]\n", r"own\.yaml: field 'reflection': .*at least 1 item"),
    ("reflection: [\n", r"own\.yaml: invalid YAML"),
    ("", r"own\.yaml: "),
]


@pytest.mark.parametrize(("content", "expected"), PHRASES)
def test_bad_phrase_file(content: str, expected: str, workspace: Checkout):
    give_trees(workspace)
    (workspace.root / "own.yaml").write_text(content)
    workspace.set_param("linearize.phrase_file", "own.yaml")
    fails(workspace.run("python", "-m", "stages.linearize", ok=False), expected)


def test_endpoint_that_does_not_answer(workspace: Checkout):
    write_jsonl(workspace.root / "data/problems/train.jsonl", [problem(1), problem(2)])
    (workspace.root / "models/base").mkdir(parents=True)
    workspace.set_param("engine.endpoint.model", "tiny")
    workspace.set_param("engine.kind", "endpoint")
    workspace.set_param("execution.endpoint.url", "http://127.0.0.1:9/v1")  # the discard port: nobody listens
    workspace.set_param("execution.endpoint.retries", 1)
    before = leftovers(workspace.root)
    done = workspace.run("python", "-m", "stages.mcts", ok=False)
    fails(
        done,
        r"execution\.endpoint\.url http://127\.0\.0\.1:9/v1: the endpoint does not answer.*0 finished trees are kept",
    )
    assert leftovers(workspace.root) == before


@pytest.mark.parametrize("stage", ["mcts", "eval", "grpo", "sft", "report"])
def test_stage_before_its_inputs(stage: str, workspace: Checkout):
    """A stage run by hand in an empty checkout says which file it misses."""
    fails(workspace.run("python", "-m", f"stages.{stage}", ok=False), r"(data|models|metrics)/\S+: ")
    assert leftovers(workspace.root) == []


def test_two_processes_of_the_same_work(workspace: Checkout):
    """The second one ends at once instead of spoiling the first one's work folder."""
    write_jsonl(workspace.root / "data/problems/train.jsonl", [problem(1)])
    (workspace.root / "models/base").mkdir(parents=True)
    workspace.set_param("engine.endpoint.model", "tiny")
    workspace.set_param("engine.kind", "endpoint")
    workspace.set_param("execution.endpoint.url", "http://127.0.0.1:9/v1")
    workspace.set_param("execution.endpoint.retries", 0)
    workspace.run("python", "-m", "stages.mcts", ok=False)
    lock = next((workspace.root / "work/mcts").glob("*/lock"))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = workspace.run("python", "-m", "stages.mcts", ok=False)
    fails(done, r"another process is doing the same work")


# --------------------------------------------------------------------------------------------------------- the machine


LIMITED = """
from pathlib import Path
from astro.files import write_jsonl
from astro.process import run_stage
from schemas.records import Problem
row = Problem(id="a", task="countdown", question="make 9 from 4 5", gold="9", level=2, chance=0.5)
run_stage(lambda: write_jsonl(Path("data/rows.jsonl"), (row for _ in range(1000))))
"""


def test_write_that_is_refused_half_way(workspace: Checkout):
    """By a limit on the size of files, which needs no privileges; a full disk is refused at the same place."""
    done = workspace.run("bash", "-c", f"trap '' XFSZ; ulimit -f 20; exec python -c '{LIMITED}'", ok=False)
    fails(done, r"File too large \(data/rows\.jsonl\)")
    assert leftovers(workspace.root) == []


# options of the file system that data/ is; message
HEADER = "id,set,reason,hits,where,detail\n"
"""data/problems/dropped.csv when nothing was dropped."""

DISKS = [
    ("size=16k", r"No space left on device \(data/problems/\S+\)"),
    ("ro", r"Read-only file system \(data/problems"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "expected"), DISKS)
def test_disk_that_cannot_be_written(options: str, expected: str, workspace: Checkout):
    data = workspace.root / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(data)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs privileges that this test run does not have")
    try:
        fails(workspace.run("python", "-m", "stages.problems", ok=False), expected)
        left = [p for p in data.rglob("*") if p.is_file()]
        assert [p for p in left if p.suffix not in {".jsonl", ".csv"}] == [], "temporary files are left"
        for path in left:  # whole files may stand: DVC removes the outs of a failed stage before the next try
            assert list(read_jsonl(path, Problem)) if path.suffix == ".jsonl" else path.read_text() == HEADER
    finally:
        subprocess.run(["umount", str(data)], check=True)


@pytest.mark.slow
def test_output_folder_that_cannot_be_made(workspace: Checkout):
    """A file stands where a folder is to be made: refused for root too, whom permissions do not stop."""
    (workspace.root / "data").write_text("in the way")
    done = workspace.run("python", "-m", "stages.problems", ok=False)
    fails(done, r"(Not a directory|File exists) \(\S*data")


@pytest.mark.slow
def test_no_git(params: str, tmp_path: Path):
    """An archive of the project, without git: DVC says what it misses, and works once told that there is none."""
    copied = unpacked(tmp_path / "astro")
    (copied.root / "params.yaml").write_text(params)
    refused = copied.run("dvc", "repro", "problems", ok=False, ASTRO_TRACKING="off")
    assert refused.code != 0
    assert "is not a git repository" in refused.err
    copied.run("dvc", "config", "--local", "core.no_scm", "true")  # as `make run` does where there is no git
    done = copied.run("dvc", "repro", "problems", ASTRO_TRACKING="off")
    assert done.ran == ["problems"]
    assert (copied.root / "data/problems/train.jsonl").is_file()
