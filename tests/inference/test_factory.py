"""How many engines `execution.processes: auto` opens."""

from types import SimpleNamespace

import pytest

from astro.inference import factory
from astro.inference.factory import GIB, count_processes, share_of
from astro.params import load_params

PARAMS = load_params()
COUNTS = {
    # case: (processes, kind, cores, free GiB, concurrency, GPU, engines)
    "one per core": ("auto", "vllm", 2, 20, 256, False, 2),
    "transformers too": ("auto", "hf", 2, 20, 256, False, 2),
    "a single core": ("auto", "vllm", 1, 20, 256, False, 1),
    "as far as memory reaches": ("auto", "vllm", 8, 9, 1024, False, 3),
    "no memory for one: it is tried": ("auto", "vllm", 8, 1, 1024, False, 1),
    "a batch of 64 each": ("auto", "vllm", 64, 500, 256, False, 4),
    "fewer sequences than a batch": ("auto", "vllm", 8, 500, 16, False, 1),
    "a GPU": ("auto", "vllm", 8, 500, 256, True, 1),
    "an endpoint has its own engines": ("auto", "endpoint", 8, 500, 256, False, 1),
    "an endpoint, a number": (3, "endpoint", 8, 500, 256, False, 1),
    "a number stands": (3, "vllm", 1, 1, 1, True, 3),
}


@pytest.mark.parametrize("case", COUNTS)
def test_engines_of_a_machine(case, monkeypatch, tmp_path):
    processes, kind, cores, free, concurrency, gpu, expected = COUNTS[case]
    devices = tmp_path / "dev"
    devices.mkdir()
    if gpu:
        (devices / "nvidia0").touch()
    monkeypatch.setattr(factory, "DEVICES", devices)
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    monkeypatch.setattr(factory.psutil, "virtual_memory", lambda: SimpleNamespace(available=free * GIB))
    engine = PARAMS.engine.model_copy(update={"kind": kind})
    execution = PARAMS.execution.model_copy(update={"processes": processes, "concurrency": concurrency})
    assert count_processes(engine, execution, tmp_path) == expected


def test_weights_take_memory_too(monkeypatch, tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * GIB)  # sparse
    monkeypatch.setattr(factory, "DEVICES", tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(factory.psutil, "virtual_memory", lambda: SimpleNamespace(available=20 * GIB))
    execution = PARAMS.execution.model_copy(update={"processes": "auto", "concurrency": 1024})
    assert count_processes(PARAMS.engine, execution, tmp_path) == 2


def test_engines_share_concurrency_and_cache():
    one = share_of(PARAMS.execution, 4)
    assert (one.processes, one.concurrency) == (1, PARAMS.execution.concurrency // 4)
    assert one.vllm.kv_cache_gb == PARAMS.execution.vllm.kv_cache_gb / 4
