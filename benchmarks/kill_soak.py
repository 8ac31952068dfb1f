"""SIGKILL of a Ray worker, of the driver, of an endpoint, at random moments: are all trees there, each once, and is nobody left?

    python -m benchmarks.kill_soak [worker|driver|endpoint|all] [moments] [seed]

The driver is a process of its own with what stages/mcts.py is made of: search tasks, a runner, a result store.
Engines are simulated (real latencies, no model). After each kill the driver goes on, or is started again, until it has published;
then the shards must be those of a run without a kill, byte for byte, and no process of the driver's may be left.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from astro.execution.job_runner import LocalRunner, Runner, run_jobs
from astro.execution.ray_runner import RayRunner
from astro.execution.result_store import FILE, ResultStore, write_shards
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import digest_path
from astro.inference.endpoint_engine import EndpointEngine
from astro.process import UserError, run_stage
from benchmarks.world import Open, problems, settings, stored
from schemas.execution import RayParams
from schemas.records import Tree

PROBLEMS, SHARDS, WORKERS, IN_FLIGHT = 150, 4, 2, 8
ENGINE = Open(slots=8, token_s=0.002)
TARGETS = ("worker", "driver", "endpoint")
MARK = "ASTRO_KILL_SOAK"
"""Environment variable that all processes of one round share."""
GONE_S = 30.0


# --- the driver --------------------------------------------------------------------------------------------------------


def drive(folder: Path, target: str, url: str) -> None:
    """Search what the store does not hold, then publish."""
    runner: Runner
    if target in ("worker", "driver"):
        runner = RayRunner(ENGINE, settings=RayParams(address="", workers=WORKERS, wait_timeout_s=60.0), gpus=0)
    else:

        def connect() -> EndpointEngine:
            return EndpointEngine(
                url, model="", api_key="", timeout_s=5.0, retries=1, concurrency=IN_FLIGHT, wait_timeout_s=60.0
            )

        runner = LocalRunner(connect if target == "endpoint" else Open(sleeps=False))
    jobs, store = SearchJobs(settings(), "countdown", 1), ResultStore(folder / FILE, Tree)
    run_jobs(
        jobs,
        lambda: problems(PROBLEMS),
        store=store,
        runner=runner,
        in_flight=IN_FLIGHT,
        label="soak",
        unit="trees",
    )
    lines = store.lines(p.id for p in problems(PROBLEMS))
    write_shards(folder / "trees", lines, count=PROBLEMS, shards=SHARDS)


# --- the killer --------------------------------------------------------------------------------------------------------


def ours(mark: str) -> list[psutil.Process]:
    """Processes of a round: by its mark, or, where a title has overwritten that, by the folder of their logs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if not alive or process.pid == os.getpid():
                continue
            logs = any(file.path.startswith(tempfile.gettempdir() + "/") for file in process.open_files())
            if process.environ().get(MARK) == mark or (logs and "ray::" in " ".join(process.cmdline()[:1])):
                found.append(process)
    return found


def wait_until_gone(mark: str) -> float:
    """Seconds until no process of the round is left.

    Raises:
        UserError: some are, after `GONE_S`.
    """
    began = time.monotonic()
    while left := ours(mark):
        if time.monotonic() - began > GONE_S:
            raise UserError(f"left over: {[' '.join(p.cmdline())[:80] for p in left]}")
        time.sleep(0.1)
    return time.monotonic() - began


def trees_in(folder: Path) -> int:
    """Trees that the store holds."""
    return stored(folder / FILE)


def started(command: list[str], mark: str) -> subprocess.Popen:
    """A process of the round."""
    return subprocess.Popen([sys.executable, "-m", *command], env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def endpoint(port: int, mark: str) -> Iterator[list[subprocess.Popen]]:
    """An endpoint that takes connections; its process, in a list: it may be replaced."""
    with contextlib.ExitStack() as stack:
        held = [served(port, mark)]
        stack.callback(lambda: held[0].wait())
        stack.callback(lambda: held[0].kill())
        yield held


def served(port: int, mark: str) -> subprocess.Popen:
    """Start an endpoint and wait for it."""
    process = started(["benchmarks.fake_endpoint", str(port), "0.05"], mark)
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return process
        time.sleep(0.05)


def one(target: str, folder: Path, draw: random.Random, expected: str) -> str:
    """One round: a run with a kill. Returns what happened.

    Raises:
        UserError: something is missing, or left.
    """
    mark, port = f"{os.getpid()}-{draw.random()}", free_port()
    moment = draw.randrange(1, PROBLEMS) if target != "driver" else draw.randrange(-PROBLEMS // 3, PROBLEMS)
    nothing: list[subprocess.Popen] = []
    serving: contextlib.AbstractContextManager[list[subprocess.Popen]] = contextlib.nullcontext(nothing)
    if target == "endpoint":
        serving = endpoint(port, mark)
    with serving as held:
        command = ["benchmarks.kill_soak", "drive", str(folder), target, f"http://127.0.0.1:{port}/v1"]
        driver, runs = started(command, mark), 1
        if moment <= 0:
            time.sleep(-moment / 5)  # while Ray is still starting
        while trees_in(folder) < moment and driver.poll() is None:
            time.sleep(0.01)
        had = trees_in(folder)
        gone = 0.0
        if target == "driver":
            driver.kill()
            driver.wait()
            gone = wait_until_gone(mark)
            driver, runs = started(command, mark), 2
        elif target == "worker":
            victims = [p for p in ours(mark) if p.cmdline() and p.cmdline()[0].startswith("ray::Worker")]
            if victims:
                draw.choice(victims).send_signal(signal.SIGKILL)
        else:
            held[0].kill()
            held[0].wait()
            time.sleep(draw.random() * 2)
            held[0] = served(port, mark)
        if driver.wait() != 0:
            raise UserError(f"{target}: the driver ended with {driver.returncode}")
    wait_until_gone(mark)
    if (got := digest_path(folder / "trees")) != expected:
        raise UserError(f"{target}: the trees differ: {got}, expected {expected}")
    after = f", all processes ended after {gone:.1f} s" if target == "driver" else ""
    return f"killed with {had} of {PROBLEMS} trees{after}; {runs} run(s), same trees"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    """Of this process and of those that it starts: what lies or is written there is of this soak."""
    before, os.environ["TMPDIR"], tempfile.tempdir = os.environ.get("TMPDIR"), folder, folder
    try:
        yield
    finally:
        tempfile.tempdir = None
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


def soak(targets: list[str], moments: int, seed: int) -> None:
    """All rounds; prints one line each."""
    with tempfile.TemporaryDirectory(prefix="soak-") as home, temporary_files_in(home):
        root = Path(home)
        drive(root / "expected", "none", "")
        expected = digest_path(root / "expected/trees")
        for target in targets:
            draw = random.Random(f"{seed}/{target}")
            for i in range(moments):
                began = time.monotonic()
                folder = root / f"{target}-{i}"
                said = one(target, folder, draw, expected)
                print(f"{target} {i + 1}/{moments}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
                shutil.rmtree(folder)


def main() -> None:
    """See the module's docstring."""
    match sys.argv[1:]:
        case ["drive", folder, target, url]:
            drive(Path(folder), target, url)
        case given:
            target, moments, seed = (given + ["all", "10", "1"][len(given) :])[:3]
            soak(list(TARGETS) if target == "all" else [target], int(moments), int(seed))
            print("every run complete, each problem once, no process left")


if __name__ == "__main__":
    run_stage(main)
