"""A project checkout of its own to run the real commands in, as a user who has just cloned it would."""

import atexit
import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
    warm: bool = False  # `python -m` is `Forked`

    def run(self, *command: str, timeout: float = 900, ok: bool = True, **env: str) -> Done:
        """Run a command here; with `ok` its failure fails the test and shows what it said."""
        began, env = time.monotonic(), {**self.env, **env}
        if self.warm and command[:2] == ("python", "-m"):
            out, err = (self.root.parent / f"{self.root.name}.{name}" for name in ("out", "err"))
            code = Forked.start(command, self.root, env, out, err).wait(timeout)
            said = out.read_text(), err.read_text()
        else:
            done = subprocess.run(
                command, cwd=self.root, env=env, capture_output=True, text=True, timeout=timeout, check=False
            )
            code, said = done.returncode, (done.stdout, done.stderr)
        result = Done(code, *said, time.monotonic() - began)
        assert not ok or result.code == 0, f"{' '.join(command)}: {result}"
        return result

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def set_param(self, name: str, value: object) -> None:
        """Change one parameter, e.g. `set_param("mcts.num_actions", 3)`; the key must be there."""
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
        return replace(self, root=to)

    def status(self) -> set[str]:
        """Stages whose own params, dependencies or outs changed, by `dvc status` after `stages.code` has run."""
        here = replace(self, warm=True)
        here.run("python", "-m", "stages.code")
        return set(json.loads(here.run("python", "-m", "dvc", "status", "--json").out)) - {"code"}

    @contextmanager
    def started(self, *command: str) -> Iterator["Running"]:
        """A command in its own process group, killed at the end whatever happens."""
        log = self.root.parent / f"{self.root.name}.log"
        process: subprocess.Popen | Forked
        if self.warm:
            process = Forked.start(command, self.root, self.env, log, log)
        else:
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

    process: "subprocess.Popen | Forked"
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


def kill(process: "psutil.Process | subprocess.Popen | Forked") -> None:
    """SIGKILL: no handler, no clean-up, as the out-of-memory killer does it."""
    os.kill(process.pid, signal.SIGKILL)


WARM = """
import json, os, runpy, sys
import accelerate, datasets, dvc.cli.parser, dvc.repo, great_expectations, openai, pandas, peft, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, Trainer

for line in sys.stdin:
    given = json.loads(line)
    pid = os.fork()
    if not pid:
        os.chdir(given["root"])
        os.environ.clear()
        os.environ.update(given["env"])
        for descriptor, path in enumerate((os.devnull, given["out"], given["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
        sys.path[:1] = [given["root"], *given["env"].get("PYTHONPATH", given["root"]).split(os.pathsep)]
        module, *sys.argv[1:] = given["command"]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""It imports what takes seconds, none of it the project's, and forks for each command. It has one thread."""


@functools.cache
def warm() -> subprocess.Popen:
    """The interpreter that has imported the libraries. It ends with its standard input."""
    env = environment(HF_HUB_OFFLINE="1", ASTRO_TRACKING="off")
    command, pipe = [sys.executable, "-u", "-c", WARM], subprocess.PIPE
    process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdin=pipe, stdout=pipe, bufsize=0)
    assert process.stdin is not None
    atexit.register(process.stdin.close)
    return process


@dataclass(frozen=True)
class Forked:
    """`python -m <module>` in a process of its own, forked from one that has imported the libraries: it starts at once.

    One at a time. The project's own modules are imported anew, from the folder that the command runs in.
    """

    pid: int
    parent: subprocess.Popen
    code: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, command: Sequence[str], root: Path, env: dict[str, str], out: Path, err: Path) -> "Forked":
        assert tuple(command[:2]) == ("python", "-m"), command
        for path in (out, err):
            path.unlink(missing_ok=True)
        parent = warm()
        given = {"command": command[2:], "root": str(root), "env": env, "out": str(out), "err": str(err)}
        parent.stdin.write(json.dumps(given).encode() + b"\n")
        return cls(int(parent.stdout.readline()), parent)

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if not self.code and select.select([self.parent.stdout], [], [], 0)[0]:
            self.code.append(int(self.parent.stdout.readline()))
        return self.code[0] if self.code else None

    def wait(self, timeout: float = 900) -> int:
        """Its exit code, when it has ended; after the timeout it is killed."""
        if not self.code and not select.select([self.parent.stdout], [], [], timeout)[0]:
            self.kill()
        while self.poll() is None:
            select.select([self.parent.stdout], [], [])
        return self.code[0]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def unpacked(root: Path, **env: str) -> Checkout:
    """The project's files, as an archive of it holds them: no git."""
    for path in project_files():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, target, follow_symlinks=False)
    return Checkout(root, environment(**env))


MASKED = "  masked: {suffix: _masked, label: Masked, traces: train, baseline: direct, description: masked chains}\n"
"""A third arm, at the end of arms.yaml."""

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
    checkout = Checkout(root, {**environment(ASTRO_TRACKING="off", HF_HUB_OFFLINE="1"), **env}, warm=True)
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
