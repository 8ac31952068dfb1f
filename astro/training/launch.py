"""Run a training job in this process, or in as many processes as the compute profile says.

The stage remains the one process that DVC started. It holds the lock, MLflow and the outs. If the profile asks for
several processes, the stage starts an agent (torchrun, or `accelerate launch` for FSDP2 and ZeRO-3; see
elastic_launcher.py), which starts the workers (astro/training/worker.py). All workers run the same function of the
stage's module. Rank 0 writes its curve during training and its result at the end, and the stage reads both. The kernel
kills a process that loses its parent, so a killed stage leaves nothing behind. The work folder holds checkpoints for
resuming.

    python -m astro.training.launch join      # on the other machines of a profile with machines > 1: docs/training.md
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from astro.compute_profile import check_machine, rendezvous
from astro.files import write_json
from astro.process import UserError, home_root, plural, run_stage
from schemas.compute_profile import Compute

AFFECTS_RESULTS = False  # it starts processes; the stage's job computes the results

Log = Callable[[dict[str, float], int], None]
Job = Callable[[dict, Compute, Log], dict]
"""A module-level function of an importable module: (its arguments, the compute profile, function that logs a row) -> its result.

Both dicts hold JSON values. With several processes every rank runs it, and the result of rank 0 counts.
"""

POLL = 0.2
"""Seconds between two looks at the children and at rank 0's curve."""

GRACE = 10.0
"""Seconds that children have to end after a signal, before they are killed."""

STALE = 60.0
"""Seconds after which an announcement counts as abandoned by its leader."""


WORLD = re.compile(
    r"(LOCAL_|GROUP_|ROLE_|NODE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET|ACCELERATE|FSDP)_.*"
    r"|(PMI|MPI|OMPI_COMM_WORLD|MV2_COMM_WORLD)_.*(RANK|SIZE).*"
)
"""Environment variables in which torchrun, accelerate and MPI describe the process group."""


def forget_world(name: str) -> None:
    """Remove leftovers of torchrun, accelerate or MPI from the environment, with a message. With them the trainer or an engine
    would wait for processes that nobody starts. The compute profile sets the number of processes, and `launch` starts them.
    """
    left = {key: os.environ.pop(key) for key in sorted(os.environ) if WORLD.fullmatch(key)}
    if left:
        said = ", ".join(f"{key}={value}" for key, value in left.items())
        print(
            f"[{name}] {said}: ignored, because the compute profile sets the number of training processes; unset it",
            flush=True,
        )


def launch(job: Job, given: dict, *, compute: Compute, work: Path, log: Log) -> dict:
    """Run `job(given, compute, log)` as the profile says, and return its result.

    Args:
        work: the locked work folder, visible to all processes on all machines.
        log: receives each row of rank 0's curve, even if rank 0 is another process.

    Raises:
        UserError: the profile does not fit the machine, or a worker raised it.
        SystemExit: a worker failed otherwise, with its exit code (128 + n: killed by signal n).
    """
    if compute.strategy == "none":
        if compute.device == "gpu":
            check_machine(compute, visible_gpus(compute))
        if compute.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        elif not os.environ.get("CUDA_VISIBLE_DEVICES"):
            os.environ["CUDA_VISIBLE_DEVICES"] = (
                "0"  # with several visible GPUs the trainer would split each batch over them
            )
        return job(given, compute, log)
    check_machine(compute, visible_gpus(compute))
    order = work / "launch" / "order.json"
    write_json(
        order,
        {
            "id": uuid.uuid4().hex,
            "folder": str(
                Path.cwd()
            ),  # DVC's copy of the repository for a queued experiment, because other machines run its code
            "job": [module_of(job), job.__name__],
            "given": given,
            "compute": compute.model_dump(),
            "address": rendezvous(compute),
        },
    )
    folder = order.parent
    for left in ("rows.jsonl", "result.json", "failure.json"):  # left by a killed launch
        (folder / left).unlink(missing_ok=True)
    with announced(order, compute):
        code = run_agent(order, compute, machine=0, each=Tail(folder / "rows.jsonl", log))
    if (folder / "failure.json").exists():
        failure = json.loads((folder / "failure.json").read_bytes())
        raise UserError(failure["message"])
    if code or not (folder / "result.json").exists():
        raise SystemExit(code or 1)
    return json.loads((folder / "result.json").read_bytes())


def module_of(job: Job) -> str:
    """The name under which workers import the job's module, even if it was started by `python -m`."""
    if job.__module__ != "__main__":
        return job.__module__
    spec = sys.modules["__main__"].__spec__
    assert spec is not None  # started by `python -m`
    return spec.name


def visible_gpus(compute: Compute) -> int:
    """Number of GPUs that this process sees; 0 for device cpu."""
    if compute.device == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


# --- the agent and its environment
# -------------------------------------------------------------------------------------


def agent_command(order: Path, compute: Compute, machine: int, address: str, identifier: str) -> list[str]:
    """Arguments of astro.training.elastic_launcher: those of torchrun or accelerate, then the worker and its order."""
    worker = ["astro.training.worker", str(order)]
    many = compute.machines > 1
    if compute.strategy == "ddp":
        spread = ["--nproc_per_node", str(compute.processes), "--nnodes", str(compute.machines)]
        if many:
            spread += [
                "--node_rank",
                str(machine),
                "--master_addr",
                address,
                "--master_port",
                str(compute.rendezvous.port),
            ]
        else:  # a free port of this machine, whatever its host name resolves to
            spread += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "--rdzv_id", identifier]
            spread += ["--local_addr", "127.0.0.1"]
        return ["torchrun", *spread, "-m", *worker]
    spread = ["--config_file", compute.accelerate, "--num_processes", str(compute.world)]
    spread += ["--num_machines", str(compute.machines), "--machine_rank", str(machine)]
    if many:
        spread += ["--main_process_ip", address, "--main_process_port", str(compute.rendezvous.port)]
    else:
        spread += ["--main_process_port", "0"]
    return ["accelerate", *spread, "-m", *worker]


def environment(compute: Compute) -> dict[str, str]:
    """Environment of the agent and its workers. It divides the cores and hides GPUs for device cpu. Only the stage tracks
    runs."""
    env = dict(os.environ)
    env |= {"ASTRO_PARENT": str(os.getpid()), "ASTRO_TRACKING": "off", "PYTHONUNBUFFERED": "1"}
    env.pop("DVC_STAGE", None)  # workers are not the stage
    cores = int(env.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    env["OMP_NUM_THREADS"] = str(max(1, cores // compute.processes))
    env.setdefault("LOGLEVEL", "CRITICAL")  # the agent itself reports who failed
    if compute.device == "cpu":
        env |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    if compute.machines == 1:
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return env


def run_agent(order: Path, compute: Compute, *, machine: int, each: Callable[[], None]) -> int:
    """Start the agent, call `each` while it works, and forward signals. Returns its exit code.

    A signal to this process first ends the workers, and then acts on this process as usual.
    """
    said = json.loads(order.read_bytes())
    arguments = agent_command(order, compute, machine, said["address"], said["id"])
    agent = subprocess.Popen(
        [sys.executable, "-m", "astro.training.elastic_launcher", *arguments],
        env=environment(compute),
        cwd=said["folder"],
        start_new_session=True,  # a Ctrl-C reaches it only once, through this process
    )
    with passing_on(agent) as got:
        while agent.poll() is None:
            time.sleep(POLL)
            each()
    each()
    if got:
        if got[0] == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(got[0], signal.SIG_DFL)
        os.kill(os.getpid(), got[0])
    return agent.returncode if agent.returncode >= 0 else 128 - agent.returncode


@contextlib.contextmanager
def passing_on(agent: subprocess.Popen) -> Iterator[list[int]]:
    """Forward SIGINT, SIGTERM and SIGHUP to the agent, and kill it if it does not end. Yields the list of received signals.

    However the block ends, the agent and its workers are gone afterwards.
    """
    got: list[int] = []
    deadline = None

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal deadline
        got.append(number)
        if deadline is None:
            deadline = time.monotonic() + GRACE
            agent.terminate()
            signal.setitimer(signal.ITIMER_REAL, GRACE)

    def out_of_patience(number: int, frame: FrameType | None) -> None:
        agent.kill()

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), hand_on)
    handlers[signal.SIGALRM] = out_of_patience
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield got
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if agent.poll() is None:
            agent.kill()
        agent.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


class Tail:
    """Reads the rows that rank 0 has appended to a file since the last call."""

    def __init__(self, path: Path, log: Log):
        self.path, self.log, self.at = path, log, 0

    def __call__(self) -> None:
        """Process only complete lines, because the last one may be half written."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.at)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.at += len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            self.log(entry["row"], entry["step"])


# --- several machines -------------------------------------------------------------------------------------------------


def announcements() -> Path:
    """Folder in which machine 0 announces its launches, on the disk that the machines share."""
    return home_root() / "work" / "launch"


@contextlib.contextmanager
def announced(order: Path, compute: Compute) -> Iterator[None]:
    """Announce `order` to the other machines, and keep the announcement fresh during the block."""
    if compute.machines == 1:
        yield
        return
    import threading

    said = json.loads(order.read_bytes())
    path, done = announcements() / f"{said['id']}.json", threading.Event()
    write_json(path, {"order": str(order.resolve())})

    def keep_fresh() -> None:
        while not done.wait(STALE / 6):
            path.touch()

    threading.Thread(target=keep_fresh, daemon=True).start()
    print(f"[launch] waiting for {plural(compute.machines - 1, 'machine')} to join at {said['address']}", flush=True)
    try:
        yield
    finally:
        done.set()
        path.unlink(missing_ok=True)


def waiting_orders(served: set[str]) -> Iterator[Path]:
    """Orders that a live machine 0 announced and that this machine has not served yet."""
    folder = announcements()
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / f".clock-{os.uname().nodename}-{os.getpid()}"
    clock.touch()  # times are compared by the clock of the shared disk
    now = clock.stat().st_mtime
    clock.unlink()
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileNotFoundError):
            if path.stem not in served and now - path.stat().st_mtime < STALE:
                served.add(path.stem)
                yield Path(json.loads(path.read_bytes())["order"])


def join(machine: int) -> None:
    """Serve the launches of machine 0, one after the other, until a signal arrives.

    Args:
        machine: rank of this machine, from 1.
    """
    served: set[str] = set()
    print(f"[launch] machine {machine} is waiting for machine 0", flush=True)
    while True:
        for order in waiting_orders(served):
            compute = Compute.model_validate(json.loads(order.read_bytes())["compute"])
            if not 0 < machine < compute.machines:
                raise UserError(
                    f"ASTRO_MACHINE {machine}: the profile has {compute.machines} machines, numbered from 0"
                )
            check_machine(compute, visible_gpus(compute))
            code = run_agent(order, compute, machine=machine, each=lambda: None)
            print(f"[launch] machine {machine}: {order.parent.parent.parent.name} ended with {code}", flush=True)
        time.sleep(1)


def main() -> None:
    """See the module's docstring."""
    if sys.argv[1:] != ["join"]:
        raise UserError("usage: ASTRO_MACHINE=1 python -m astro.training.launch join")
    machine = os.environ.get("ASTRO_MACHINE") or os.environ.get("SLURM_NODEID") or ""
    if not machine.isdigit() or int(machine) < 1:
        raise UserError(f"ASTRO_MACHINE {machine!r}: expected the number of this machine, from 1; machine 0 runs dvc")
    forget_world("launch")
    join(int(machine))


if __name__ == "__main__":
    run_stage(main)
