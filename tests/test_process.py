"""How a command runs: work folders that survive a kill, exit codes, a parent that dies, progress lines."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from astro import process
from astro.process import Progress, clear_folder, home_root, plural, work_folder

# --- work folders -----------------------------------------------------------------------------------------------------


def python(code, *arguments, **environment):
    """A second process that imports the same code."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(process.__file__).parent.parent)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENTER = """
    from astro.process import run_stage, work_folder
    def main():
        with work_folder("mcts", "key") as folder:
            print(folder)
    run_stage(main)
"""


def test_two_processes_do_not_do_the_same_work(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with work_folder("mcts", "key") as folder:
        assert folder == home_root() / "work" / "mcts" / "key"
        second = python(ENTER, DVC_ROOT=str(tmp_path))
        assert second.returncode == 2
        assert "another process is doing the same work" in second.stderr
        with work_folder("mcts", "other"):  # other work goes on beside it
            pass
    third = python(ENTER, DVC_ROOT=str(tmp_path))  # the lock is gone with its holder
    assert (third.returncode, third.stdout.strip()) == (0, str(folder))


def test_a_killed_process_leaves_its_work_and_no_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    killed = python(
        """
        import os, signal
        from astro.process import work_folder
        with work_folder("mcts", "key") as folder:
            (folder / "half").write_text("done so far")
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        DVC_ROOT=str(tmp_path),
    )
    assert killed.returncode == -9
    with work_folder("mcts", "key") as folder:
        assert (folder / "half").read_text() == "done so far"


def test_a_cleared_folder_keeps_its_lock_only(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with work_folder("mcts", "key") as folder:
        (folder / "a").write_text("x")
        (folder / "b").mkdir()
        (folder / "b" / "c").write_text("x")
        clear_folder(folder)
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_work_stands_in_the_main_checkout_or_else_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert home_root() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert home_root() == (tmp_path / "main").resolve()


# --- exit codes -------------------------------------------------------------------------------------------------------

EXITS = [
    # (what main does, exit code, shows a trace, what stderr says)
    ("pass", 0, False, ""),
    # what the user did wrong, in one line
    ("raise UserError('x.jsonl, line 3: no')", 2, False, "error: x.jsonl, line 3: no"),
    ("raise ValueError('number_max is 0')", 2, False, "error: number_max is 0"),
    ("Row.model_validate({'name': 3})", 2, False, "count"),
    # the machine says no: with the path
    ("open('/nowhere/file')", 2, False, "error: No such file or directory (/nowhere/file)"),
    ("raise OSError(28, 'No space left on device')", 2, False, "error: No space left on device"),
    # our own mistakes keep their trace
    ("assert 1 == 2", 1, True, "AssertionError"),
    ("{}['key']", 1, True, "KeyError"),
    ("raise RuntimeError('engine')", 1, True, "engine"),
    # whoever sends a signal gets its code
    ("raise SystemExit(7)", 7, False, ""),
]


@pytest.mark.parametrize(("body", "code", "trace", "said"), EXITS, ids=[e[0] for e in EXITS])
def test_exit_codes(body, code, trace, said):
    done = python(
        f"""
        from astro.process import UserError, run_stage
        from schemas.strict import Strict
        class Row(Strict):
            name: str
            count: int
        def main():
            {body}
        run_stage(main)
        """
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert ("Traceback" in done.stderr) is trace


COUNTS = [
    ((0, "problem"), "0 problems"),
    ((1, "problem"), "1 problem"),
    ((2, "problem"), "2 problems"),
    ((1, "process", "processes"), "1 process"),
    ((2, "process", "processes"), "2 processes"),
    ((1, "is visible", "are visible"), "1 is visible"),
]


@pytest.mark.parametrize(("given", "said"), COUNTS)
def test_a_message_counts_one_thing_in_the_singular(given, said):
    assert plural(*given) == said


def test_a_value_error_shows_its_trace_on_request():
    done = python("from astro.process import run_stage\nrun_stage(lambda: int('x'))", ASTRO_TRACE="1")
    assert "Traceback" in done.stderr
    assert "error: invalid literal" in done.stderr
    assert done.returncode != 0


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_stage_ends_with_its_parent():
    """The parent starts a stage that would sleep on, and is killed: the stage's end of the pipe is closed soon after."""
    stage = "import time, stages; print('up', flush=True); time.sleep(50)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"],
        env=os.environ | {"PYTHONPATH": str(Path(process.__file__).parent.parent), "DVC_STAGE": "x"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout.readline() == "up\n"
    parent.kill()
    parent.wait()
    out, _ = parent.communicate(timeout=20)  # ends when the last writer, the stage, is gone
    assert out == ""


def test_progress_is_printed_now_and_then_and_at_the_end(capsys):
    progress = Progress("mcts", 4, unit="trees", every=3600.0, start=1)
    for done in (2, 3, 4):
        progress.update(done, "a note")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[mcts] 4/4, ")
    assert line.endswith("trees/s, 0 s left, a note")


CTRL_C = """
import time
from astro.process import run_stage

def main():
    print("on", flush=True)
    time.sleep(60)

run_stage(main)
"""


def test_ctrl_c_is_one_line():
    stage = subprocess.Popen(
        [sys.executable, "-c", CTRL_C],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them ignore it, and so their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert stage.stdout.readline() == "on\n"
    stage.send_signal(signal.SIGINT)
    _, said = stage.communicate(timeout=30)
    assert stage.returncode == 130
    assert said.strip().startswith("interrupted; finished work is kept")
    assert "Traceback" not in said
