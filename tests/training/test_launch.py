"""Compute profiles, the processes of a training, and that none of them outlives the stage."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from astro.code_identity import identity as code_identity
from astro.compute_profile import check_machine, compute_file, identity, load_compute, split_batch
from astro.process import UserError
from astro.training.launch import (
    WORLD,
    Tail,
    agent_command,
    announced,
    environment,
    forget_world,
    launch,
    waiting_orders,
)
from astro.training.worker import check_world
from schemas.compute_profile import Compute
from tests.training import jobs

PROFILES = sorted(Path("compute").glob("*.yaml"))
TWO = Compute(device="cpu", processes=2, strategy="ddp", micro_batch={"sft": 3})


# --- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_every_profile_that_ships_is_valid_and_says_what_it_is(path):
    compute = load_compute(path)
    assert path.read_text().startswith("# ")
    if path.stem.startswith("gpu"):
        assert compute.device == "gpu"
        assert str(compute.world) == path.stem.split("-")[1]


def test_without_a_profile_training_is_one_process_in_the_stage(monkeypatch, tmp_path):
    monkeypatch.delenv("ASTRO_COMPUTE", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert compute_file() is None
    assert load_compute() == Compute()
    assert (Compute().strategy, Compute().world, identity(Compute())) == ("none", 1, [])


def test_the_variable_goes_before_the_file_of_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("ASTRO_COMPUTE", raising=False)
    (tmp_path / "compute.yaml").write_text("device: cpu\nprocesses: 3\nstrategy: ddp\n")
    assert load_compute().world == 3
    monkeypatch.setenv("ASTRO_COMPUTE", "cpu-2")
    assert load_compute().world == 2
    (tmp_path / "mine.yaml").write_text("processes: 4\nmachines: 2\nstrategy: ddp\n")
    monkeypatch.setenv("ASTRO_COMPUTE", str(tmp_path / "mine.yaml"))
    assert load_compute().world == 8
    monkeypatch.setenv("ASTRO_COMPUTE", "gpu-9000")
    with pytest.raises(UserError, match=r"ASTRO_COMPUTE 'gpu-9000': no such compute profile.*cpu-1, cpu-2, gpu-1"):
        load_compute()


WRONG = {
    # what is wrong: (the file, what is said)
    "a typo": ("proceses: 2\n", r"line 1: proceses: unknown parameter"),
    "no such strategy": ("strategy: fsdp\n", r"line 1: strategy: .*'fsdp2'.*got 'fsdp'"),
    "several processes without a strategy": ("processes: 2\n", r"strategy none is for one process.*is 2"),
    "fsdp2 on a CPU": (
        "device: cpu\nprocesses: 2\nstrategy: fsdp2\naccelerate: compute/accelerate/fsdp2.yaml\n",
        r"strategy fsdp2 needs GPUs.*device is cpu",
    ),
    "fsdp2 without its file": (
        "processes: 2\nstrategy: fsdp2\n",
        r"strategy fsdp2 needs a file for `accelerate launch`",
    ),
    "a file that is missing": (
        "processes: 2\nstrategy: zero3\naccelerate: compute/nowhere.yaml\n",
        r"accelerate: compute/nowhere\.yaml: no such file",
    ),
    "a file for another strategy": (
        "processes: 2\nstrategy: zero3\naccelerate: compute/accelerate/fsdp2.yaml\n",
        r"strategy zero3, but compute/accelerate/fsdp2\.yaml has distributed_type FSDP",
    ),
    "and the other way round": (
        "processes: 2\nstrategy: fsdp2\naccelerate: compute/accelerate/zero3.yaml\n",
        r"strategy fsdp2, but .* has distributed_type DEEPSPEED",
    ),
    "a file that is not read": (
        "processes: 2\nstrategy: ddp\naccelerate: compute/accelerate/fsdp2.yaml\n",
        r"only fsdp2 and zero3 read accelerate, but strategy is ddp",
    ),
    "no process at all": ("processes: 0\n", r"line 1: processes: .*got 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_profile_is_refused_with_its_reason(tmp_path, name):
    text, said = WRONG[name]
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        load_compute(tmp_path / "c.yaml")
    assert str(tmp_path / "c.yaml") in str(caught.value)


GPU8 = {"device": "gpu", "processes": 8, "strategy": "ddp"}
MACHINES = [
    # (profile, GPUs in sight, what is said)
    (GPU8, 0, "8 processes need one GPU each, but 0 are visible"),
    (GPU8, 7, "but 7 are visible"),
    (GPU8, 1, "but 1 is visible"),
    ({"device": "gpu"}, 0, "1 process needs a GPU, but 0 are visible"),
    (GPU8 | {"device": "auto"}, 2, "but this machine has 2; set device: cpu to train without GPUs"),
    (GPU8 | {"strategy": "fsdp2", "accelerate": "a", "device": "auto"}, 0, "8 processes need one GPU each"),
    (GPU8 | {"strategy": "zero3", "accelerate": "a"}, 8, "needs the package deepspeed"),
    (GPU8 | {"machines": 2}, 8, "2 machines, but the address of machine 0 is not set"),
    (GPU8, 8, ""),
    (GPU8 | {"device": "auto"}, 0, ""),  # on the CPU, then
    (GPU8 | {"machines": 2, "rendezvous": {"address": "10.0.0.1", "port": 1}}, 8, ""),
]


@pytest.mark.parametrize(("profile", "gpus", "said"), MACHINES)
def test_a_machine_that_cannot_hold_the_profile_is_told(profile, gpus, said, monkeypatch):
    monkeypatch.delenv("ASTRO_RENDEZVOUS", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    if not said:
        check_machine(Compute.model_validate(profile), gpus)
        return
    with pytest.raises(UserError, match=said):
        check_machine(Compute.model_validate(profile), gpus)


SPLITS = [
    # (step, most per pass, processes) -> (per pass, passes)
    ((32, 0, 1), (32, 1)),
    ((32, 0, 2), (16, 1)),
    ((32, 4, 2), (4, 4)),
    ((32, 1, 8), (1, 4)),
    ((32, 100, 2), (16, 1)),  # more than there is
]


@pytest.mark.parametrize(("given", "expected"), SPLITS)
def test_a_step_is_spread_over_processes_and_passes(given, expected):
    assert split_batch(*given, "sft.batch_size") == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((32, 0, 3), "3 processes cannot share a batch of 32 equally"),
        ((32, 5, 2), "is 16 for each of 2 .*micro_batch 5"),
    ],
)
def test_a_step_that_cannot_be_spread_is_refused(given, said):
    with pytest.raises(UserError, match=rf"sft\.batch_size: {said}|sft\.batch_size.*{said}"):
        split_batch(*given, "sft.batch_size")


# --- what accelerate and DeepSpeed read -------------------------------------------------------------------------------


def test_the_fsdp2_file_is_what_accelerate_takes_it_for():
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file("compute/accelerate/fsdp2.yaml")
    assert config.distributed_type == "FSDP"
    known = vars(launch_command_parser().parse_args(["script"]))  # what it does not know it would pass over
    assert [key for key in config.fsdp_config if key not in known] == []


def test_the_zero3_file_is_what_accelerate_takes_it_for():
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    config = load_config_from_file("compute/accelerate/zero3.yaml")
    assert config.distributed_type == "DEEPSPEED"
    own = HfDeepSpeedConfig(config.deepspeed_config["deepspeed_config_file"])
    assert own.is_zero3()
    assert own.get_value("zero_optimization.stage3_gather_16bit_weights_on_model_save") is True
    assert not own.is_offload()


ACCELERATE = [p for p in PROFILES if "accelerate:" in p.read_text()]


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda p: p.stem)
def test_accelerate_takes_the_command_as_it_is_meant(path):
    """Its own parser and its own merge with the file: processes, machines, the worker as a module with its order."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    compute = load_compute(path)
    command = agent_command(Path("work/order.json"), compute, 0, "10.0.0.1", "id")
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(command[1:]))
    assert (args.num_processes, args.num_machines, args.machine_rank) == (compute.world, compute.machines, 0)
    assert (args.use_fsdp, args.use_deepspeed) == (compute.strategy == "fsdp2", compute.strategy == "zero3")
    assert args.module
    assert [args.training_script, *args.training_script_args] == ["astro.training.worker", "work/order.json"]
    if compute.strategy == "fsdp2":
        assert (int(args.fsdp_version), args.fsdp_state_dict_type) == (2, "FULL_STATE_DICT")
    if compute.machines > 1:
        assert (args.main_process_ip, args.main_process_port) == ("10.0.0.1", compute.rendezvous.port)


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_environment_of_the_workers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("DVC_STAGE", "sft")
    env = environment(TWO)
    assert (env["OMP_NUM_THREADS"], env["ASTRO_TRACKING"], env["CUDA_VISIBLE_DEVICES"]) == ("4", "off", "")
    assert "DVC_STAGE" not in env
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert environment(TWO)["OMP_NUM_THREADS"] == "1"


def test_a_world_of_another_size_is_refused(monkeypatch):
    """As `accelerate launch --cpu --num_processes 2` makes it: one process, without a word."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(UserError, match="2 processes were requested, but 1 were started"):
        check_world(TWO)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_world(TWO)


def test_one_process_is_this_one(tmp_path):
    rows = []

    def job(given, compute, log):
        log({"loss": 1.0}, 1)
        return {"here": os.getpid(), **given}

    done = launch(job, {"a": 1}, compute=Compute(), work=tmp_path, log=lambda row, step: rows.append((row, step)))
    assert done == {"here": os.getpid(), "a": 1}
    assert rows == [({"loss": 1.0}, 1)]


def test_the_curve_of_rank_0_is_read_line_by_line(tmp_path):
    rows = []
    tail = Tail(tmp_path / "rows.jsonl", lambda row, step: rows.append(step))
    tail()
    with (tmp_path / "rows.jsonl").open("w") as file:
        file.write('{"row": {"loss": 1.0}, "step": 1}\n{"row": {"lo')
        file.flush()
        tail()
        assert rows == [1]  # the second is half written
        file.write('ss": 1.0}, "step": 2}\n')
        file.flush()
        tail()
    assert rows == [1, 2]


@pytest.mark.slow
def test_a_mistake_told_by_one_rank_ends_all_with_its_message(tmp_path):
    with pytest.raises(UserError, match=r"^sft\.max_length is wrong$"):
        launch(jobs.refuses, {"what": "sft.max_length"}, compute=TWO, work=tmp_path, log=print)


def alive(pids):
    """Those of the processes that run: a zombie does not."""

    def state(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "X"

    return [pid for pid in pids if state(pid) not in "XZ"]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


CODE = """
import sys
from pathlib import Path
from astro.training.launch import launch
from schemas.compute_profile import Compute
from tests.training.jobs import sleeps
two = Compute(device="cpu", processes=2, strategy="ddp")
launch(sleeps, {"folder": sys.argv[1]}, compute=two, work=Path(sys.argv[1]), log=print)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_killed_stage(tmp_path, number):
    stage = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)])
    try:
        wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
        workers = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
        agent = int(Path(f"/proc/{workers[0]}/stat").read_text().rpartition(")")[2].split()[1])
        assert alive([agent, *workers]) == [agent, *workers]
        stage.send_signal(number)
        assert stage.wait(30) == -number
        wait_for(lambda: not alive([agent, *workers]), 20)
    finally:
        stage.kill()


# --- several machines -------------------------------------------------------------------------------------------------


def test_an_announcement_is_served_once_and_only_while_it_is_fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    order = tmp_path / "order.json"
    order.write_text(json.dumps({"id": "abc", "address": "10.0.0.1"}))
    compute, served = Compute(processes=1, machines=2, strategy="ddp"), set()
    assert list(waiting_orders(served)) == []
    with announced(order, compute):
        assert list(waiting_orders(served)) == [order]
        assert list(waiting_orders(served)) == []  # it is being served
        stale = tmp_path / "work" / "launch" / "abc.json"
        os.utime(stale, (time.time() - 3600,) * 2)
        assert list(waiting_orders(set())) == []  # machine 0 was killed an hour ago
    assert list(waiting_orders(set())) == []  # done


def alone(**more: str) -> dict[str, str]:
    """The environment of a shell: a vLLM engine of an earlier test in this process leaves LOCAL_WORLD_SIZE in ours."""
    return {name: value for name, value in os.environ.items() if not WORLD.fullmatch(name)} | more


@pytest.mark.slow
def test_two_machines_on_this_one(tmp_path, monkeypatch, capfd):
    """The same commands as on two: machine 0 launches, the other joins. All run the job, the first one's result counts."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows = []
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    compute = {"device": "cpu", "machines": 2, "strategy": "ddp", "micro_batch": {"sft": 3}}
    compute["rendezvous"] = {"address": "127.0.0.1", "port": port}
    joining = subprocess.Popen(
        [sys.executable, "-m", "astro.training.launch", "join"],
        env=alone(ASTRO_MACHINE="1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        done = launch(
            jobs.says_who,
            {"folder": str(tmp_path)},
            compute=Compute.model_validate(compute),
            work=tmp_path / "work" / "sft" / "key",
            log=lambda row, step: rows.append((step, row["loss"])),
        )
        assert (done["rank"], done["world"], done["micro"], done["ASTRO_TRACKING"]) == ("0", "2", 3, "off")
        assert rows == [(1, 0.5), (2, 1.0)]
        assert "printed by rank 0" in capfd.readouterr().out
        assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
        assert "is waiting for machine 0" in joining.stdout.readline()
        # nothing of rank 1's own in between
        assert joining.stdout.readline().strip() == "[launch] machine 1: sft ended with 0"
    finally:
        joining.terminate()
        joining.wait(30)


JOINERS = [("", "expected the number of this machine"), ("0", "from 1; machine 0 runs dvc")]


@pytest.mark.parametrize(("machine", "said"), JOINERS)
def test_a_machine_without_a_rank_cannot_join(machine, said):
    done = subprocess.run(
        [sys.executable, "-m", "astro.training.launch", "join"],
        env={k: v for k, v in os.environ.items() if k != "SLURM_NODEID"} | {"ASTRO_MACHINE": machine},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr


def test_no_stage_depends_on_a_compute_profile():
    assert "compute" not in Path("dvc.yaml").read_text()
    for stage in ("sft", "grpo"):
        where = ("astro/compute_profile.py", "schemas/compute_profile.py", "launch.py", "agent.py", "worker.py")
        assert [path for path in code_identity(stage, "countdown") if path.endswith(where)] == []


def test_a_world_left_in_the_shell_is_forgotten_and_told(monkeypatch, capsys):
    """accelerate would wait for the other processes. Variables that look alike stay."""
    left = {"RANK": "3", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1"}
    left |= {
        "TORCHELASTIC_RUN_ID": "x",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "PMI_SIZE": "4",
        "ACCELERATE_USE_FSDP": "true",
    }
    stay = {"OMPI_MCA_btl": "tcp", "GLOO_SOCKET_IFNAME": "lo", "RANKING": "1", "ASTRO_MACHINE": "1", "PETS": "1"}
    for name, value in {**left, **stay}.items():
        monkeypatch.setenv(name, value)
    forget_world("sft")
    assert not left.keys() & os.environ.keys()
    assert stay.items() <= dict(os.environ).items()
    said = capsys.readouterr().out
    assert said.startswith("[sft] ACCELERATE_USE_FSDP=true, LOCAL_RANK=1, ")
    assert "RANK=3" in said
    assert len(said.splitlines()) == 1
    forget_world("sft")
    assert capsys.readouterr().out == ""
