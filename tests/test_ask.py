"""`astro ask` and the `astro` command: what is said to a user who mistypes, and an answer of a tiny model from end to end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from astro import ask
from astro.params import load_params
from astro.process import UserError
from tests.inference.tiny import save_tiny_model

ROOT = Path(__file__).parents[1]


def astro(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess:
    """`astro ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "astro", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


PARAMS = load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    "text",
    ["make 24 from 3 5 7 9", "24 from 3, 5, 7, 9", "Make 24 with 3 5 7 and 9!", "  make 24 using 3 5 7 9.  "],
)
def test_a_problem_is_read_as_people_write_it(text):
    problem = ask.read_problem(text, None, PARAMS)
    assert (problem.question, problem.gold, problem.level) == ("make 24 from 3 5 7 9", "24", 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a Countdown problem"),
        ("what is 2 + 2?", 'write one like "make 24 from'),
        ("make 24 from 3", "not a Countdown problem"),
        ("make 99 from 3 5", "99 is outside the range"),
        ("make 24 from 0 5", "0 is outside the range"),
        ("make 24 from 1 2 3 4 5 6 7", "7 numbers are too many"),
    ],
)
def test_what_is_no_problem_is_refused(text, said):
    with pytest.raises(UserError, match=re.escape(said)):
        ask.read_problem(text, None, PARAMS)


def test_remarks_tell_what_the_models_have_not_seen():
    assert list(ask.remarks(ask.read_problem("make 24 from 3 5 7 9", None, PARAMS), PARAMS.problems)) == []
    (unsolvable,) = ask.remarks(ask.read_problem("make 24 from 3 5 7", None, PARAMS), PARAMS.problems)
    assert "no solution" in unsolvable
    (many,) = ask.remarks(ask.read_problem("make 15 from 1 2 3 4 5", None, PARAMS), PARAMS.problems)
    assert "trained on 3 and 4 numbers" in many
    (far,) = ask.remarks(ask.read_problem("make 40 from 30 5 5", None, PARAMS), PARAMS.problems)
    assert "numbers from 1 to 12" in far


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "usage: astro COMMAND"),
        ([], 0, "usage: astro COMMAND"),
        (["plna"], 2, "did you mean 'plan'?"),
        (["zzz"], 2, "the commands are: ask"),
        (["check"], 0, "params.yaml: valid"),
        (["profile"], 0, "smoke"),
        (["profile", "smok"], 2, "unknown profile 'smok'"),
        (["plan", "--help"], 0, "usage: astro plan"),
        (["ask", "make 24 from 3 5 7 9", "--samples", "0"], 2, "--samples 0"),
    ],
)
def test_the_command_line(arguments, code, said):
    done = astro(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with the default's files and untrained models of two arms."""
    folder = tmp_path_factory.mktemp("asked")
    for name in ("params.yaml", "arms.yaml", "phrases"):
        (folder / name).symlink_to(ROOT / name)
    from astro.tasks.countdown.wording import vocabulary
    from astro.training.train_base import new_llama
    from astro.training.wordlevel import build_tokenizer

    for name in ("base", "sft", "grpo_direct"):
        tokenizer = build_tokenizer(vocabulary(60), 512)
        model = new_llama(tokenizer, hidden=64, layers=2, heads=2, ffn=48, context=512)
        model.save_pretrained(folder / "models" / name)
        tokenizer.save_pretrained(folder / "models" / name)
    return folder


def test_models_answer_and_a_page_shows_it(checkout):
    """The models know nothing, so that the answers are noise: every line of them is printed, and none controls the terminal."""
    page = checkout / "answer.html"
    done = astro(
        "ask", "make 24 from 3 5 7 9", "--samples", "2", "--tree", "--page", str(page), cwd=checkout, COLUMNS="60"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [x for x in lines if x.startswith(("ASTRO-SFT", "Direct-RL"))] == [
        "Direct-RL, answer 1 of 2",
        "Direct-RL, answer 2 of 2",
        "ASTRO-SFT, answer 1 of 2",
        "ASTRO-SFT, answer 2 of 2",
    ]
    assert "tree search by models/base" in done.stdout
    assert "\033" not in done.stdout  # a pipe has no colours
    assert max(map(len, lines)) <= 60
    assert done.stderr == ""
    html = page.read_text()
    assert html.count('<svg class="graph"') == 4
    assert "Tree search" in html
    again = astro("ask", "make 24 from 3 5 7 9", "--samples", "2", cwd=checkout, COLUMNS="60", PYTHONIOENCODING="ascii")
    assert again.returncode == 0, again.stderr
    assert again.stdout.isascii()


def test_what_is_not_there_is_said(checkout, tmp_path):
    assert "no model has been trained yet" in astro("ask", "make 24 from 3 5 7 9", cwd=_bare(tmp_path)).stderr
    for arguments, said in [
        (["--arms", "nobody"], "no such arm or model; available: direct, astro, base, sft, grpo_direct"),
        (["--arms", "sft_direct"], "no such arm or model"),
        (["--model", str(tmp_path)], "not a model folder"),
        (["--model", "models/base", "--arms", "sft"], "cannot be combined"),
    ]:
        done = astro("ask", "make 24 from 3 5 7 9", *arguments, cwd=checkout)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_model_of_another_task_is_refused(checkout, tmp_path):
    """Its words stop at 20, so it cannot read 44. The folder is a model all the same."""
    folder = save_tiny_model(tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 512}))
    done = astro("ask", "make 44 from 8 11 12", "--model", str(folder), cwd=checkout)
    assert done.returncode == 2
    assert "has no token for '44'" in done.stderr


def _bare(folder: Path) -> Path:
    for name in ("params.yaml", "arms.yaml", "phrases"):
        (folder / name).symlink_to(ROOT / name)
    return folder
