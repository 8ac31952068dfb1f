"""The commands of the card, as they stand there: vLLM's server takes the exported folder and answers."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.pipeline.checkout import environment
from tests.remote.servers import free_port

pytestmark = pytest.mark.slow  # the server needs a minute of an idle core
PATIENCE = 900  # seconds: the machine may be busy


@pytest.fixture(scope="module")
def card(exported: Path) -> list[list[str]]:
    """The commands of the card, in words: the server's, then the requests."""
    block = re.search(r"## Serve it.*?```\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)[1]
    return [shlex.split(line) for line in block.replace("<this folder>", str(exported)).strip().splitlines()]


@pytest.fixture(scope="module")
def server(card: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. `vllm serve` by the module that the CPU wheel has in its place."""
    vllm, serve, model, *options = card[0]
    assert (vllm, serve) == ("vllm", "serve")
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *options]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--enforce-eager",
    ]  # compiling would take longer than all else
    # forked, the engine's process need not import vLLM a second time
    quiet = {
        "VLLM_WORKER_MULTIPROC_METHOD": "fork",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment(**quiet)
        )
    try:
        end = time.monotonic() + PATIENCE
        while not up(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=120)
        assert not alive, f"left behind: {alive}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except OSError:
        return False


def test_every_request_of_the_card_is_answered(card: list[list[str]], server: str):
    assert card[1:]
    for curl, _, address, _, header, _, body in card[1:]:
        assert (curl, header) == ("curl", "Content-Type: application/json")
        path = address.partition("8000")[2]
        asked = urllib.request.Request(server + path, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            content = json.loads(answer.read())
        choice = content["choices"][0]
        assert choice["text"] if path == "/v1/completions" else choice["message"]["content"]
        assert content["usage"]["completion_tokens"] >= 1
        assert content["model"] == json.loads(body)["model"] == "astro-grpo"
