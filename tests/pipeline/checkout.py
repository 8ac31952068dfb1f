"""A project checkout of its own to run the real commands in, as a user who has just cloned it would."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from astro.profiles import merged

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_OURS = ("MLFLOW_", "DVC_", "ASTRO_", "GIT_", "RANK", "WORLD_SIZE", "PYTHONPATH", "VLLM_")
"""What the caller's environment says of these must not reach the pipeline under test."""

STAGES = (
    "code",
    "problems",
    "base",
    "mcts",
    "linearize",
    "sft@direct",
    "sft@astro",
    "grpo@direct",
    "grpo@astro",
    "eval",
    "report",
)
RAN = re.compile(r"^Running stage '([\w@]+)'", re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    """The running interpreter first in PATH; nothing of the caller's tracking; threads as the caller says."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_OURS)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    threads = kept.get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)
    own = {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    own["SHELL"] = "/bin/sh"  # DVC runs stages through it; one that does not give way by itself is the harder case
    return {**kept, "PATH": path, **own, **more}


def project_files() -> list[Path]:
    """The project's files, relative: what git tracks or would track."""
    command = ["git", "ls-files", "-co", "-z", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [Path(p) for p in listed.split("\0") if p and (REPOSITORY / p).is_file()]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def ran(self) -> list[str]:
        """Stages that DVC ran, in their order, but for `code`, which runs every time."""
        return [name for name in self.all_ran if name != "code"]

    @property
    def all_ran(self) -> list[str]:
        """Stages that DVC ran, in their order."""
        return RAN.findall(self.out)

    def __str__(self) -> str:
        return f"exit code {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass(frozen=True)
class Checkout:
    """A folder that holds the project, under git unless said otherwise."""

    root: Path
    env: dict[str, str] = field(default_factory=environment)

    def run(self, *command: str, timeout: float = 900, ok: bool = True, **env: str) -> Done:
        """Run a command here; with `ok` its failure fails the test and shows what it said."""
        began = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        result = Done(done.returncode, done.stdout, done.stderr, time.monotonic() - began)
        assert not ok or result.code == 0, f"{' '.join(command)}: {result}"
        return result

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def set_param(self, name: str, value: object) -> None:
        """Change one parameter, e.g. `set_param("mcts.k", 3)`; the key must be there."""
        path, yaml = self.root / "params.yaml", YAML(typ="rt")
        content = yaml.load(path)
        *sections, key = name.split(".")
        here = content
        for section in sections:
            here = here[section]
        assert key in here, name
        here[key] = value
        yaml.dump(content, path)

    def lock(self) -> dict:
        """dvc.lock's stages."""
        return YAML(typ="safe").load(self.root / "dvc.lock")["stages"]

    def md5(self, path: str) -> str:
        """md5 of an out, from dvc.lock."""
        return next(
            out["md5"] for stage in self.lock().values() for out in stage.get("outs", []) if out["path"] == path
        )

    def forget(self, *stages: str) -> None:
        """As if these stages had never run: nothing in dvc.lock, the run cache and work/, and none of their outs.

        stages: DVC's names, e.g. "sft@astro".
        """
        path, yaml = self.root / "dvc.lock", YAML(typ="rt")
        content = yaml.load(path)
        for stage in stages:
            outs = content["stages"].pop(stage)["outs"]
            name = next(Path(out["path"]).stem for out in outs if out["path"].startswith("records/"))
            shutil.rmtree(self.root / "work" / name, ignore_errors=True)
            for out in outs:
                target = self.root / out["path"]
                shutil.rmtree(target) if target.is_dir() else target.unlink()
        yaml.dump(content, path)
        shutil.rmtree(self.root / ".dvc/cache/runs", ignore_errors=True)

    def copy(self, to: Path) -> "Checkout":
        """A second checkout in the same state, with its own cache, store and git history."""
        shutil.copytree(self.root, to, symlinks=True)
        return Checkout(to, self.env)

    def status(self) -> set[str]:
        """Stages whose own params, dependencies or outs changed, by `dvc status` after the stage `code` has run."""
        self.run("dvc", "repro", "code")
        return set(json.loads(self.run("dvc", "status", "--json").out)) - {"code"}

    @contextmanager
    def started(self, *command: str) -> Iterator["Running"]:
        """A command in its own process group, killed at the end whatever happens."""
        log = self.root.parent / f"{self.root.name}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, cwd=self.root, env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        running = Running(process, self.root, log)
        try:
            yield running
        finally:
            for left in running.family():
                left.kill()
            if process.poll() is None:
                process.kill()
            process.wait()


@dataclass(frozen=True)
class Running:
    """A command under way."""

    process: subprocess.Popen
    root: Path
    log: Path

    def family(self) -> list[psutil.Process]:
        """Every live process that works in the checkout, orphans too, but not the command itself."""
        found = []
        for process in psutil.process_iter():
            try:
                here = process.cwd() == str(self.root) and process.status() != psutil.STATUS_ZOMBIE
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if here and process.pid != self.process.pid:
                found.append(process)
        return found

    def stage_process(self, stage: str) -> psutil.Process:
        """The process of `python -m stages.<stage>`."""
        found = [p for p in self.family() if f"stages.{stage}" in p.cmdline()]
        assert len(found) == 1, f"{len(found)} processes run stage {stage}: {self.log.read_text()}"
        return found[0]

    def wait_for(self, condition: Callable[[], bool], *, what: str, timeout: float = 300) -> None:
        """Poll until `condition` holds; the command must not have ended before."""
        end = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self.log.read_text()}"
            assert time.monotonic() < end, f"no {what} in {timeout} s: {self.log.read_text()}"
            time.sleep(0.002)

    def end(self, timeout: float = 60) -> int:
        """Wait for the command's end; its exit code."""
        return self.process.wait(timeout)


def kill(process: psutil.Process | subprocess.Popen) -> None:
    """SIGKILL: no handler, no clean-up, as the out-of-memory killer does it."""
    os.kill(process.pid, signal.SIGKILL)


LINKED = (
    "astro",
    "schemas",
    "stages",
    "phrases",
    "profiles",
    "sources",
    "examples",
    "tests",
    "dvc.yaml",
    "arms.yaml",
    "rates.yaml",
)
"""What a run of stages reads of the project."""


def linked(root: Path, profile: str, settings: dict, **env: str) -> Checkout:
    """The project by links in a new folder, with a profile's parameters and changes to them; nothing is tracked."""
    root.mkdir()
    for name in LINKED:
        (root / name).symlink_to(REPOSITORY / name)
    text = merged(REPOSITORY / f"profiles/{profile}.yaml", (REPOSITORY / "params.yaml").read_text())
    (root / "params.yaml").write_text(text)
    checkout = Checkout(root, {**environment(ASTRO_TRACKING="off", HF_HUB_OFFLINE="1"), **env})
    for name, value in settings.items():
        checkout.set_param(name, value)
    return checkout


def in_one_process(*stages: str, first: str = "") -> str:
    """A program that runs stages as `python -m stages.<name>` does; the imports are half of the time of small runs.

    first: what it does before them.
    """
    return f"""
import runpy, sys, time
{first}
for stage in {stages}:
    began = time.monotonic()
    name, *sys.argv[1:] = stage.split()
    runpy.run_module(f"stages.{{name}}", run_name="__main__")
    print(f"{{stage}}: {{time.monotonic() - began:.0f}} s", flush=True)
"""
