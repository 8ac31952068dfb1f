"""params.yaml: read as DVC reads it, and every fault told with file, line and field."""

from pathlib import Path

import pytest

from astro.params import line_of, load_params, plain, read_yaml, validate
from astro.runtime import UserError
from schemas.params import Params

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
    "a fraction for a count": ("iterations", "  iterations: 16.5", "mcts.iterations", ["integer", "16.5"]),
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


MATH = [
    # edits that ask for mathematics, what is missing
    ([("  domain: countdown ", "  domain: math ")], ["run.domain math", "problems.source", "docs/problems.md"]),
    (
        [("  domain: countdown ", "  domain: math "), ("source: generated ", "source: files "),
         ("  files: {} ", "  files: {train: a, rl: b, eval_c: d} ")],
        ["run.domain math", "base.source", "base.pretrained.path"],
    ),
    ([("  writer: template ", "  writer: lm ")], ["run.domain countdown", "linearize.writer"]),
    ([("  answers: box ", "  answers: box_or_statement ")], ["run.answers box_or_statement: run.domain countdown", "to box"]),
    ([("    temperature: 0.7", "    temperature: 0.0")], ["linearize.lm: temperature 0", "retries"]),
    ([("  files: {} ", "  files: {train: {dataset: a/b}} ")], ["run.domain countdown", "paths only", "'train'"]),
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
    ("run: [", ["no valid YAML", "line"]),
    ("run:\n  seed: 1\n  seed: 2\n", ["no valid YAML", "duplicate key"]),
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
