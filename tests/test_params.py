"""params.yaml: read as DVC reads it, and every fault told with file, line and field."""

import subprocess
from pathlib import Path

import pytest

from astro import dvc_files
from astro.params import line_of, load_params, plain, read_yaml, validate
from astro.process import UserError
from astro.profiles import to_text
from schemas.params import Params
from schemas.renamed import RENAMED, remedy

TEXT = Path("params.yaml").read_text(encoding="utf-8")


def changed(tmp_path, *edits):
    """params.yaml with (old, new) edits of its text."""
    text = TEXT
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in params.yaml"
        text = text.replace(old, new)
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def line_of_text(path, start):
    """1-based line that begins with `start`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.startswith(start))


def message(path):
    with pytest.raises(UserError) as caught:
        load_params(path)
    return str(caught.value)


def value(key):
    """The line of params.yaml with `key`, which stands there once: e.g. '  rollout_tokens: 96'."""
    (line,) = [line for line in TEXT.splitlines() if line.strip().startswith(f"{key}:")]
    return line


def test_the_shipped_params_are_valid():
    assert isinstance(load_params(), Params)


FAULTS = {
    # what is wrong: (key of the line, its new text, field, parts of the message)
    "a typo": ("c_puct", "  c_pucct: 1.0", "mcts.c_pucct", ["unknown parameter"]),
    "out of range, below": ("rollout_tokens", "  rollout_tokens: 0", "mcts.rollout_tokens", ["greater", "got 0"]),
    "out of range, above": ("direct_share", "  direct_share: 1.5", "linearize.direct_share", ["less", "got 1.5"]),
    "a word that is no choice": ("prior", "  prior: best", "mcts.prior", ["'sequence'", "'uniform'", "got 'best'"]),
    "a text for a number": ("target_min", "  target_min: '5'", "problems.target_min", ["integer", "got '5'"]),
    "a number in quotes for a float": ("c_puct", "  c_puct: '1.0'", "mcts.c_puct", ["number", "got '1.0'"]),
    "a fraction for a count": (
        "num_simulations",
        "  num_simulations: 16.5",
        "mcts.num_simulations",
        ["integer", "16.5"],
    ),
    "a yes for a truth value": ("enforce_eager", "    enforce_eager: 'yes'", "engine.vllm.enforce_eager", ["boolean"]),
    "yes is no truth value in YAML 1.2": (
        "reflection",
        "  reflection: yes",
        "linearize.reflection",
        ["boolean", "'yes'"],
    ),
    "nothing": ("jump", "  jump:", "linearize.jump", ["got None"]),
    "infinity": ("beta", "  beta: .inf", "grpo.beta", ["finite", "inf"]),
    "not a number": ("beta", "  beta: .nan", "grpo.beta", ["finite", "nan"]),
    "a list for a number": ("shards", "  shards: [8]", "mcts.shards", ["integer"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_file_line_and_field(tmp_path, name):
    key, new, field, parts = FAULTS[name]
    path = changed(tmp_path, (value(key), new))
    said = message(path)
    assert f"{path}, line {line_of_text(path, new)}: {field}: " in said
    assert [part for part in parts if part not in said] == []


def test_a_typo_is_told_beside_what_is_then_missing(tmp_path):
    path = changed(tmp_path, (value("c_puct"), "  c_pucct: 1.0"))
    first, second = sorted(line.strip() for line in message(path).splitlines())
    assert "mcts.c_pucct: unknown parameter" in first + second
    # a missing key has no line of its own: the line of its section
    assert f"line {line_of_text(path, 'mcts:')}: mcts.c_puct: Field required" in first + second


def test_a_missing_section_is_told(tmp_path):
    path = changed(tmp_path, ("\nreport:\n", "\nreports:\n"))
    said = message(path)
    assert f"{path}: report: Field required" in said
    assert f"line {line_of_text(path, 'reports:')}: reports: unknown parameter" in said


def test_all_faults_are_told_at_once(tmp_path):
    path = changed(tmp_path, (value("c_puct"), "  c_puct: -1.0"), (value("min_value"), "  min_value: 2.0"))
    said = message(path)
    assert "mcts.c_puct" in said
    assert "linearize.min_value" in said


TOGETHER = [
    # parameters that do not fit together: (new values, the section and both values)
    ({"target_min": 61, "target_max": 60, "value_max": 70}, ["problems: target_min 61 is above target_max 60"]),
    ({"row_tokens": 99999}, ["base: corpus.row_tokens 99999 is above model.context"]),
    ({"majority": 999}, ["eval: majority 999 is above samples"]),
    ({"baseline_samples": 1}, ["eval: baseline_samples 1 is below samples 8"]),
    ({"max_backtracks": 0, "reflection": "true", "direct_share": 0.5}, ["linearize: max_backtracks 0", "direct_share"]),
    ({"micro_batch": 1000003}, ["grpo: micro_batch 1000003 must divide"]),
    ({"reward_wrong": 1.0, "reward_correct": 1.0}, ["grpo: reward_correct must be above reward_wrong"]),
    ({"low": 0.9, "high": 0.1}, ["grpo: pass_rate.low 0.9 is above pass_rate.high 0.1"]),
]


@pytest.mark.parametrize(("new", "parts"), TOGETHER)
def test_values_that_do_not_fit_together(tmp_path, new, parts):
    path = changed(tmp_path, *((value(key), f"{value(key).partition(':')[0]}: {v}") for key, v in new.items()))
    section = parts[0].partition(":")[0]
    said = message(path)
    assert f"{path}, line {line_of_text(path, section + ':')}: {section}: " in said
    assert [part for part in parts if part not in said] == []


RL = [
    # what RL could only refuse after the search and SFT: edits, words
    ([("  rl: 1128 ", "  rl: 128 ")], ["problems.rl 128", "validation.problems 128", "leave 0 for training"]),
    ([("  rl: 1128 ", "  rl: 60 ")], ["leave 0 for training", "prompts_per_step 16"]),
    ([("    problems: 128 ", "    problems: 1113 ")], ["leave 15 for training"]),
    ([("    problems: 1000", "    problems: 15")], ["grpo.pass_rate.problems 15", "leave 15 for training"]),
    ([("  prompts_per_step: 16", "  prompts_per_step: 1024")], ["leave 1000 for training", "prompts_per_step 1024"]),
    ([("  max_completion_length: 224", "  max_completion_length: 512")], ["base.model.context is 512", "no room"]),
    # one arm alone
    (
        [("  direct: {sft: {}, grpo: {}}", "  direct: {sft: {}, grpo: {prompts_per_step: 1024}}")],
        ["leave 1000 for training"],
    ),
]


@pytest.mark.parametrize(("edits", "parts"), RL)
def test_an_rl_set_or_context_that_cannot_do_is_refused_before_the_first_stage(tmp_path, edits, parts):
    said = message(changed(tmp_path, *edits))
    assert [part for part in parts if part not in said] == []


@pytest.mark.parametrize(
    "edits",
    [
        # just enough; no RL at all; problems of files, whose number only the file says
        [("    problems: 128 ", "    problems: 1112 ")],
        [("  rl: 1128 ", "  rl: 5 "), ("  steps: 26", "  steps: 0")],
        [("  rl: 1128 ", "  rl: 5 "), ("source: generated ", "source: files "),
         ("  files: {} ", "  files: {train: a, rl: b, eval_c: d} ")],
    ],
)  # fmt: skip
def test_an_rl_set_that_does_is_not_refused(tmp_path, edits):
    load_params(changed(tmp_path, *edits))


MATH = [
    # edits that ask for mathematics, what is missing
    ([("  task: countdown ", "  task: math ")], ["run.task math", "problems.source", "docs/problems.md"]),
    (
        [("  task: countdown ", "  task: math "), ("source: generated ", "source: files "),
         ("  files: {} ", "  files: {train: a, rl: b, eval_c: d} ")],
        ["run.task math", "base.source", "base.pretrained.path"],
    ),
    ([("  writer: template ", "  writer: lm ")], ["run.task countdown", "linearize.writer"]),
    ([("  answers: box ", "  answers: box_or_statement ")], ["run.answers box_or_statement: run.task countdown", "to box"]),
    ([("    temperature: 0.7", "    temperature: 0.0")], ["linearize.lm: temperature 0", "retries"]),
    ([("  files: {} ", "  files: {train: {path: a, preset: maht}} ")], ["files.train.preset", "'math500'", "got 'maht'"]),
    ([("  files: {} ", "  files: {train: {path: a, feilds: {}}} ")], ["problems.files.train.feilds", "unknown parameter"]),
    ([("  files: {} ", "  files: {train: {path: a, dataset: b}} ")], ["problems.files.train", "give either path", "or dataset"]),
    ([("  files: {} ", "  files: {train: {path: a, split: b}} ")], ["problems.files.train", "belong to a dataset"]),
    ([("source: generated ", "source: files "), ("  files: {} ", "  files: {train: a} ")], ["needs train, rl and at least one"]),
]  # fmt: skip


@pytest.mark.parametrize(("edits", "parts"), MATH)
def test_problems_of_the_users_own(tmp_path, edits, parts):
    said = message(changed(tmp_path, *edits))
    assert [part for part in parts if part not in said] == []


FILES = [
    # the whole file is unreadable
    ("run: [", ["invalid YAML", "line"]),
    ("run:\n  seed: 1\n  seed: 2\n", ["invalid YAML", "duplicate key"]),
    ("- a\n- b\n", ["expected sections"]),
    ("", ["expected sections", "NoneType"]),
    ("just text", ["expected sections"]),
]


@pytest.mark.parametrize(("text", "parts"), FILES)
def test_an_unreadable_file_is_told(tmp_path, text, parts):
    (tmp_path / "params.yaml").write_text(text)
    said = message(tmp_path / "params.yaml")
    assert [part for part in [str(tmp_path / "params.yaml"), *parts] if part not in said] == []


def test_a_missing_file_is_told(tmp_path):
    assert message(tmp_path / "params.yaml") == f"{tmp_path / 'params.yaml'}: No such file or directory"


# --- the same reading as DVC's ----------------------------------------------------------------------------------------

SCALARS = [
    # (YAML, what both must read)
    ("0.0003", 0.0003),
    ("3e-4", 0.0003),  # a text to PyYAML, a number to DVC and to us
    ("1.0", 1.0),
    ("1", 1),
    ("true", True),
    ("yes", "yes"),
    ("off", "off"),
    ("null", None),
    ("'1'", "1"),
    ("010", 10),
    ("0x10", 16),
]


@pytest.mark.parametrize(("text", "expected"), SCALARS)
def test_a_scalar_means_what_it_means_to_dvc(tmp_path, text, expected):
    from dvc.utils.serialize import load_yaml

    (tmp_path / "p.yaml").write_text(f"key: {text}\nlist: [{text}]\n")
    ours = plain(read_yaml(tmp_path / "p.yaml"))
    assert ours == {"key": expected, "list": [expected]} == load_yaml(str(tmp_path / "p.yaml"))
    assert type(ours["key"]) is type(expected)


def test_a_float_in_short_notation_is_taken_as_a_number(tmp_path):
    path = changed(tmp_path, (value("c_puct"), "  c_puct: 5e-1"))
    assert load_params(path).mcts.c_puct == 0.5


def test_lines_are_those_of_the_deepest_key_there_is(tmp_path):
    (tmp_path / "p.yaml").write_text("# a comment\na:\n  b:\n    3: x\n")
    content = read_yaml(tmp_path / "p.yaml")
    assert line_of(content, ("a", "b", "3")) == 4  # keys compare as text
    assert line_of(content, ("a", "b", "c")) == 3
    assert line_of(content, ("a", "x", "y")) == 2
    assert line_of(content, ("z",)) is None


def test_dump_gives_plain_values_that_validate_again():
    params = load_params()
    assert Params.model_validate(params.model_dump()) == params
    assert validate(read_yaml(Path("params.yaml")), Path("params.yaml")) == params


# --- names and values that are nearly right -----------------------------------------------------------------------------

NEARLY = [
    # new line in the place of a key's line, what is said
    ("c_puct", "  c_pucct: 1.0", "mcts.c_pucct: unknown parameter; the nearest is mcts.c_puct"),
    ("rollout_tokens", "  steps: 3", "mcts.steps: unknown parameter; the nearest is grpo.steps"),  # of another section
    ("majority", "  majority: 8.0", "eval.majority: Input should be a valid integer (got 8.0); write 8"),
    ("majority", "  majority: 1e1", "; write 10"),
    ("majority", "  majority: '8'", "; write 8, without quotes"),
    ("reflection", "  reflection: yes", "; write true or false"),
    ("rollout_tokens", "  zzzzzzzz: 3", "mcts.zzzzzzzz: unknown parameter (got 3)"),  # nothing is near
    ("number_max", "  numbr_max: 12", "problems.numbr_max: unknown parameter; the nearest is problems.number_max"),
]


@pytest.mark.parametrize(("key", "new", "said"), NEARLY)
def test_the_nearest_is_named(tmp_path, key, new, said):
    assert said in message(changed(tmp_path, (value(key), new)))


def test_a_typo_in_an_arm_names_the_nearest(tmp_path):
    said = message(changed(tmp_path, ("  astro: {sft: {}, grpo: {}}", "  astro: {sft: {epoch: 1.0}, grpo: {}}")))
    assert "arms.astro: SftParams: epoch: unknown parameter; the nearest is epochs" in said


@pytest.mark.parametrize("one", RENAMED, ids=lambda one: f"{one.section}.{one.was}")
def test_a_former_name_is_told_with_the_present_one(tmp_path, one):
    """Someone's params.yaml of the time before: each name alone, beside what is then missing."""
    section = one.section.replace("*", "n3")
    content = read_yaml(Path("params.yaml"))
    here = content
    for part in section.split("."):
        here = here[part]
    here.insert(list(here).index(one.now), one.was, here.pop(one.now))
    path = tmp_path / "params.yaml"
    path.write_text(to_text(content), encoding="utf-8")
    said = message(path)
    was, now = f"{section}.{one.was}", f"{section}.{one.now}"
    line = line_of(read_yaml(path), tuple(was.split(".")))
    assert f"{path}, line {line}: {was}: unknown parameter; {was} is now {now}" in said
    assert f"{now}: Field required" in said


def test_every_present_name_is_one():
    for one in RENAMED:
        here = load_params().model_dump()
        for part in one.section.split("."):
            here = next(iter(here.values())) if part == "*" else here[part]
        assert one.now in here
        assert one.was not in here


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("{max_completion: 8}", "grpo.max_completion is now grpo.max_completion_length"),
        ("{restart: {share: 0.5}}", "grpo.restart.share is now grpo.restart.fraction"),
    ],
)
def test_a_former_name_in_an_arm_is_told_with_the_present_one(tmp_path, own, said):
    path = changed(tmp_path, ("  astro: {sft: {}, grpo: {}}", f"  astro: {{sft: {{}}, grpo: {own}}}"))
    assert f"unknown parameter; {said}" in message(path)


def test_a_name_that_was_never_renamed_has_no_remedy():
    """The same words elsewhere: a set called k, a folder of rollouts."""
    for location in (("report", "rollouts"), ("problems", "eval", "k"), ("k",), ("eval", "iterations"), ("mcts", 3)):
        assert remedy(location) == ""


def git(*arguments, folder):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with the committed params.yaml, which is the working folder."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "DVC_ROOT", "DVC_EXP_NAME", "ASTRO_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text(TEXT, encoding="utf-8")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        git(*command, folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_refused_edit_is_told_with_the_way_back(repository):
    """What `dvc exp run -S eval.samples=2.5` leaves in the workspace, beside an edit that is right."""
    path = Path("params.yaml")
    path.write_text(TEXT.replace("  samples: 8\n", "  samples: 2.5\n").replace("  epochs: 2.0", "  epochs: 1.0"))
    said = message(path).splitlines()
    assert said[-1].strip() == (
        "it was edited (eval.samples was 8); `git restore params.yaml` restores it and undoes the other edits of the file (1)"
    )
    git("restore", "params.yaml", folder=repository)
    load_params()


def test_an_added_key_is_told_with_the_way_back(repository):
    path = Path("params.yaml")
    path.write_text(TEXT.replace("  samples: 8\n", "  samples: 8\n  sample: 9\n"))
    assert "it was edited (eval.sample was missing); `git restore params.yaml` restores it" in message(path)


def test_values_that_do_not_fit_together_are_told_with_the_way_back(repository):
    path = Path("params.yaml")
    path.write_text(TEXT.replace("  majority: 8\n", "  majority: 999\n"))
    assert "it was edited (eval.majority was 8); `git restore params.yaml` restores it" in message(path)


def test_a_fault_that_is_committed_has_no_way_back(repository):
    path = Path("params.yaml")
    path.write_text(TEXT.replace("  samples: 8\n", "  samples: 2.5\n"))
    git("add", ".", folder=repository)
    assert "git restore" not in message(path)


def test_a_copy_of_an_experiment_has_no_way_back(repository, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(repository.parent))
    Path("params.yaml").write_text(TEXT.replace("  samples: 8\n", "  samples: 2.5\n"))
    assert "git restore" not in message(Path("params.yaml"))


MERGES = [
    # text, the line of the mark
    ("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> other\n", 2),
    ("<<<<<<< Updated upstream\nb: 2\n||||||| base\n=======\nb: 3\n>>>>>>> Stashed changes\n", 1),
]


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "arms.yaml"])
@pytest.mark.parametrize(("text", "line"), MERGES)
def test_a_merge_that_is_not_finished_is_told(tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(tmp_path / name)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / name}, line {line}: unfinished merge (<<<<<<< ")
    assert ("dvc repro" in said) == (name == "dvc.lock")
    assert "\n" not in said


def test_a_line_of_equal_signs_is_no_merge(tmp_path):
    (tmp_path / "a.yaml").write_text("a: |\n  x\n# \n=======: 1\n")
    assert plain(read_yaml(tmp_path / "a.yaml")) == {"a": "x\n", "=======": 1}


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"a: 1\nb: Gr\xf6\xdfe\n")
    assert (
        message(tmp_path / "params.yaml")
        == f"{tmp_path / 'params.yaml'}, line 2: not valid UTF-8; save the file as UTF-8"
    )


# --- edits that a broken-off `dvc exp run` left in git alone -------------------------------------------------------------


def broken_off(repository):
    """As DVC does it: the edits become a stash commit under EXEC_MERGE, and the commit is checked out."""
    (repository / "note.py").write_text("x = 1\n")
    git("add", ".", folder=repository)
    git("commit", "-q", "-m", "y", folder=repository)
    (repository / "note.py").write_text("x = 2\n")
    git("update-ref", dvc_files.EXEC_MERGE, git("stash", "create", folder=repository), folder=repository)
    git("reset", "-q", "--hard", folder=repository)


def test_lost_edits_are_told_with_the_command_that_brings_them_back(repository, capsys):
    broken_off(repository)
    dvc_files.warn_of_lost_edits()
    said = capsys.readouterr().err
    command = f"git restore --source={dvc_files.EXEC_MERGE} note.py"
    assert f"`{command}`" in said
    assert len(said.splitlines()) == 1
    subprocess.run(command.split(), cwd=repository, check=True)
    assert (repository / "note.py").read_text() == "x = 2\n"
    dvc_files.warn_of_lost_edits()
    assert capsys.readouterr().err == ""


def test_a_file_that_was_cut_is_lost(repository):
    broken_off(repository)
    (repository / "note.py").write_text("")
    assert dvc_files.lost_edits() == ["note.py"]


def test_nothing_is_lost_where_the_edits_are_in_the_workspace(repository, monkeypatch):
    assert dvc_files.lost_edits() == []  # no such ref
    broken_off(repository)
    (repository / "note.py").write_text("x = 3\n")  # edited since
    assert dvc_files.lost_edits() == []
    (repository / "note.py").write_text("x = 1\n")
    monkeypatch.setenv("DVC_EXP_NAME", "bold-idea")  # a running experiment's own
    assert dvc_files.lost_edits() == []
