"""The dry run of each shipped profile passes and prints its plan; each wrong variant is refused with its reason, all at once."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from astro import plan
from astro.preflight.disk import linked
from astro.process import plural
from astro.profiles import machine_of
from tests.preflight.world import params_of, report_of
from tests.tiny_chat import write_tiny_chat

PRETRAINED = ["llama-3.1-8b", "llama-3.1-70b", "qwen2.5-1.5b", "smollm2-135m"]
SHIPPED = sorted(p.stem for p in Path("profiles").glob("*.yaml"))


def ran(monkeypatch, capsys, *argv) -> tuple[int, str]:
    """(exit code, what was printed) of `python -m astro.plan`."""
    monkeypatch.setattr(sys, "argv", ["plan", *argv])
    try:
        plan.main()
    except SystemExit as error:
        return error.code, capsys.readouterr().out
    return 0, capsys.readouterr().out


@pytest.mark.parametrize("profile", SHIPPED)
def test_the_dry_run_of_every_profile_passes_and_prints_its_plan(profile, monkeypatch, capsys):
    code, said = ran(monkeypatch, capsys, profile, "--dry-run")
    assert code == 0, said
    assert f"Profile {profile}" in said
    assert "\ntotal " in said
    if profile in PRETRAINED:
        assert said.endswith("dry run: no faults found\n")
        for section in ("model", "chat template", "lengths, tokens", "batches", "memory, GiB", "disk, GiB"):
            assert f"\n{section}" in said
        assert "fault:" not in said
        assert "revision" not in said.partition("warning:")[2]  # all sources are pinned


@pytest.mark.parametrize("profile", PRETRAINED)
def test_a_profile_names_the_machine_it_is_for(profile):
    named = machine_of(Path("profiles") / f"{profile}.yaml")
    assert (Path("compute") / f"{named['compute']}.yaml").is_file()
    assert named["compute"] in report_of(params_of(profile), profile).text()


def test_the_paper_is_a_dry_run_too(monkeypatch, capsys):
    code, said = ran(monkeypatch, capsys, "paper", "--dry-run", "--compute", "gpu-64-fsdp2")
    assert code == 0, said
    assert "64 x H100" in said


def test_a_profile_that_the_gpu_cannot_hold_ends_with_1_and_says_why(monkeypatch, capsys):
    code, said = ran(monkeypatch, capsys, "llama-3.1-70b", "--dry-run", "--device", "L4")
    assert code == 1
    assert "fault: sft: needs 48." in said
    assert "fault: execution.grpo_vllm.gpu_memory_utilization 0.45: on L4 that leaves" in said
    assert "faults found; fix them before the run" in said


FULL = "sft: {lora: {enabled: false}, dtype: float32}\n"
WRONG = {
    # what is wrong: (changes of llama-3.1-8b, device, compute profile, what is said)
    "full fine-tuning on one GPU": (
        FULL,
        "",
        "",
        ["sft: needs 1", "but H100 has 79.0", "it would fit with: LoRA (sft.lora.enabled: true); or QLoRA", "GPUs"],
    ),
    "an 8B model on 24 GB": ("", "L4", "", ["sft: needs 27.", "but L4 has 22.0", "QLoRA (sft.lora.quantize)"]),
    "long completions, many at a time": (
        "grpo: {micro_batch: 32}\n",
        "",
        "cpu-1",
        ["grpo: needs", "inputs of the blocks", "micro_batch.grpo: 1 in the compute profile"],
    ),
    "vLLM with too small a share": (
        "execution: {grpo_vllm: {gpu_memory_utilization: 0.2}}\n",
        "",
        "",
        ["execution.grpo_vllm.gpu_memory_utilization 0.2", "one sequence of 16384 tokens takes 2.0"],
    ),
    "transformers as the engine": (
        "engine: {kind: hf, hf: {batch_size: 128, dtype: bfloat16}}\n",
        "",
        "",
        ["engine.hf.batch_size 128", "reduce the batch size"],
    ),
    "an engine longer than the context": (
        "engine: {max_model_len: 200000}\n",
        "",
        "",
        ["engine.max_model_len 200000: longer than the context", "131072"],
    ),
    "completions longer than the engine": (
        "engine: {max_model_len: 8192}\n",
        "",
        "",
        ["eval.max_tokens 15360", "grpo.max_completion_length (of the pass rate) 15360", "completions would be cut"],
    ),
    "completions longer than vLLM's sequences in training": (
        "execution: {grpo_vllm: {max_model_len: 8192}}\n",
        "",
        "",
        ["execution.grpo_vllm.max_model_len is 8192"],
    ),
    "a step that the processes cannot share": (
        "sft: {batch_size: 30}\n",
        "",
        "gpu-8-ddp",
        ["sft.batch_size: 8 processes cannot share a batch of 30 equally"],
    ),
    "tensor parallel over more than the heads": (
        "execution: {vllm: {tensor_parallel_size: 5}}\n",
        "",
        "gpu-8-ddp",
        ["execution.vllm.tensor_parallel_size 5: does not divide the 32 attention heads"],
    ),
    "tensor parallel over more GPUs than there are": (
        "execution: {vllm: {tensor_parallel_size: 2}}\n",
        "",
        "",
        ["execution.vllm.tensor_parallel_size 2: more than the 1 GPUs"],
    ),
    "two engines on one GPU": ("execution: {processes: 2}\n", "", "", ["execution.processes 2", "set it to 1"]),
    "fewer problems than a step": (
        "grpo: {pass_rate: {problems: 16}}\n",
        "",
        "",
        ["grpo.pass_rate.problems 16: fewer than one step needs"],
    ),
    "a compute profile that is not there": ("", "", "gpu-3", ["no compute profile 'gpu-3'; available: cpu-1"]),
    "an adapter that is not there": (
        "base: {pretrained: {adapter: adapters/none}}\n",
        "",
        "",
        ["base.pretrained.adapter: adapters/none is not a PEFT adapter"],
    ),
    "a LoRA target that the model lacks": (
        "sft: {lora: {target_modules: query}}\n",
        "",
        "",
        ["sft.lora.target_modules"],
    ),
    "four bits, sharded": (
        "sft: {lora: {quantize: nf4}}\n",
        "",
        "gpu-8-fsdp2",
        ["sft.lora.quantize nf4: not possible with strategy fsdp2"],
    ),
    "a model without a shape": (
        "base: {pretrained: {path: acme/Llama-9B}}\n",
        "",
        "",
        ["base.pretrained.path 'acme/Llama-9B'", "has no config for this id"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_variant_is_refused_with_its_reason(name):
    changes, device, compute, parts = WRONG[name]
    report = report_of(params_of("llama-3.1-8b", changes), device=device, compute=compute)
    said = "\n".join(report.faults)
    assert said
    assert [part for part in parts if part not in said] == []
    assert f"{plural(len(report.faults), 'fault')} found; fix them before the run" in report.text()


def test_all_faults_are_told_at_once():
    changes = "sft: {max_length: 200000, batch_size: 7}\nexecution: {processes: 2}\nengine: {max_model_len: 200000}\n"
    said = "\n".join(report_of(params_of("llama-3.1-8b", changes), compute="gpu-8-ddp").faults)
    for part in ("sft.max_length 200000", "sft.batch_size", "execution.processes 2", "engine.max_model_len 200000"):
        assert part in said


def test_a_missing_accelerate_config_is_told_with_the_other_faults(tmp_path):
    shutil.copy("compute/gpu-8-fsdp2.yaml", tmp_path / "mine.yaml")
    text = (tmp_path / "mine.yaml").read_text().replace("accelerate/fsdp2.yaml", "accelerate/gone.yaml")
    (tmp_path / "mine.yaml").write_text(text)
    report = report_of(params_of("llama-3.1-8b", "sft: {max_length: 200000}\n"), compute=str(tmp_path / "mine.yaml"))
    said = "\n".join(report.faults)
    assert "compute/accelerate/gone.yaml: no such file" in said
    assert "sft.max_length 200000" in said


def test_sources_without_a_commit_are_warned_of():
    changes = "base: {pretrained: {revision: main}}\nproblems: {files: {train: {dataset: a/b}, rl: {dataset: c/d, revision: x}, "
    report = report_of(params_of("llama-3.1-8b", changes + "eval_own: own.jsonl}}\n"))
    assert report.faults == []
    said = "\n".join(report.warnings)
    assert "base.pretrained.revision 'main'" in said
    assert "problems.files.train: a/b" in said
    assert "problems.files.rl" not in said


def test_where_the_run_is_to_be_its_disk_decides():
    params = params_of("llama-3.1-70b")
    there, here = (report_of(params, "llama-3.1-70b", here=flag) for flag in (False, True))
    assert there.faults == []
    if shutil.disk_usage(Path()).free < 1e12:
        assert any(w.startswith("disk: ") for w in there.warnings)
        assert any(f.startswith("disk: ") for f in here.faults)
    if torch.cuda.device_count() < 8:
        assert "8 GPUs are needed (compute profile)" in "\n".join(here.warnings)


def test_links_of_dvc_save_a_copy(tmp_path):
    (tmp_path / ".dvc").mkdir()
    assert not linked(tmp_path)
    for kinds, expected in (("hardlink", True), ('"reflink,copy"', False), ('"symlink,hardlink"', True)):
        (tmp_path / ".dvc" / "config").write_text(f"[cache]\n    type = {kinds}\n")
        assert linked(tmp_path) is expected


# --- a model that is here -----------------------------------------------------------------------------------------------

TINY = """
base: {pretrained: {path: PATH, revision: '', adapter: 'ADAPTER'}}
engine: {max_model_len: 1024}
mcts: {rollout_tokens: 64}
sft: {max_length: 1024}
grpo: {max_completion_length: 64}
execution: {concurrency: 4, grpo_vllm: {max_model_len: 1024}}
eval: {max_tokens: 64}
"""
SHORT = {"prompt_tokens": 700, "chain_tokens": 300}


def tiny_report(folder: Path, adapter: Path | str = "", *, search: dict = SHORT, changes: str = ""):
    """The dry run of the 8B profile with the model in `folder`, and lengths to its measure."""
    from astro.preflight.dry_run import dry_run
    from astro.preflight.target_machine import machine

    where, faults = machine("H100", {"H100": 79.0}, "gpu-1")
    params = params_of("llama-3.1-8b", TINY.replace("PATH", str(folder)).replace("ADAPTER", str(adapter)) + changes)
    search = {**search, "source": "test"}
    return dry_run(params, where, title="t", shape_of_search=search, texts_gb=0.0, here=False, faults=faults)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_chat(tmp_path_factory.mktemp("model") / "tiny-llama", shards=1)


def test_a_model_that_is_here_is_asked_itself(model):
    report = tiny_report(model)
    assert report.faults == []
    said = report.text()
    assert f"of {model}" in said
    assert "tokens to its question" in said
    assert "turn ends '<|eot_id|>'" in said


def adapter_for(folder: Path, base: str, width: int) -> Path:
    """A LoRA adapter, as PEFT saves one, for q_proj of a model of `width`."""
    folder.mkdir()
    config = {"base_model_name_or_path": base, "peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    at = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    tensors = {f"{at}A.weight": torch.zeros(2, width), f"{at}B.weight": torch.zeros(width, 2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


QUESTIONS = """
problems: {source: files, folder: FOLDER, files: {train: &t {path: t.jsonl, where: {ok: "Yes"}}, rl: *t, eval_x: *t}}
"""


def test_short_problem_files_are_measured_and_an_assumption_is_a_warning(model, tmp_path):
    """1,000 tokens assumed for a prompt do not fit; those that are asked do."""
    rows = [
        {"problem": "What is $1+1$?", "answer": "2", "ok": "Yes"},
        {"problem": "1 " * 9000, "answer": "2", "ok": "No"},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    search = {"prompt_tokens": 1000, "chain_tokens": 3000}
    assumed = tiny_report(model, search=search)
    assert assumed.faults == []
    assert "shorter than the traces may be: a prompt of 1000 (rates.yaml, test)" in assumed.text()
    assert "eval.max_tokens 64: with a prompt of 1000 tokens" in assumed.text()
    measured = tiny_report(model, search=search, changes=QUESTIONS.replace("FOLDER", str(tmp_path)))
    assert measured.faults == []
    assert "at most (measured, the problem files), chain 3000 (rates.yaml, test)" in measured.text()
    assert "eval.max_tokens" not in measured.text().partition("warning")[2]


@pytest.mark.parametrize(
    ("steps", "faults", "warnings"),
    [
        ([3, 5], 0, 0),
        ([3, 5000], 0, 1),  # one is dropped
        ([5000, 5001], 1, 0),  # all are
    ],
)
def test_traces_that_are_here_are_measured(model, tmp_path, monkeypatch, steps, faults, warnings):
    params = params_of("llama-3.1-8b", TINY.replace("PATH", str(model)).replace("ADAPTER", ""))
    monkeypatch.setattr("astro.preflight.lengths.load_params", lambda: params)
    monkeypatch.setattr("astro.preflight.lengths.TRACES", tmp_path)
    rows = [
        {
            "id": f"p/{n}",
            "problem_id": "p",
            "kind": "direct",
            "prompt": "q",
            "completion": "a " * n,
            "backtracks": 0,
            "segments": [{"kind": "step", "text": "a " * n, "node": 1}],
            "answer": "2",
        }
        for n in steps
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = tiny_report(model, search={"prompt_tokens": 10, "chain_tokens": 3000})
    assert (len(report.faults), len([w for w in report.warnings if "traces" in w])) == (faults, warnings), report.text()
    assert f"measured, {tmp_path}" in report.text()


MODELS = {
    # what is wrong: (options of write_tiny_chat, what is said)
    "no chat template": ({"template": False}, ["has no chat template"]),
    "pad is eos, and nothing else to pad with": (
        {"family": "qwen", "pad": "<|im_end|>"},
        ["its end token as pad token"],
    ),
    "a context shorter than the traces": ({"context": 512}, ["sft.max_length 1024", "context of 512 tokens"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_does_not_do_is_refused(name, tmp_path):
    options, parts = MODELS[name]
    folder = write_tiny_chat(tmp_path / "model", shards=1, **options)
    if "pad" in options:  # transformers would give a Qwen tokenizer an unknown token, which could be padded with
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"unk_token": options["pad"]}))
    said = "\n".join(tiny_report(folder).faults)
    assert [part for part in parts if part not in said] == [], said


@pytest.mark.parametrize(
    ("base", "width", "said"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 64, "was made for meta-llama/Llama-3.1-8B-Instruct, not for"),
        ("somewhere/tiny-llama", 4096, "is for 4096 inputs"),
    ],
)
def test_an_adapter_for_another_base_is_refused(model, tmp_path, base, width, said):
    adapter = adapter_for(tmp_path / "adapter", base, width)
    [fault] = tiny_report(model, adapter).faults
    assert said in fault
    assert fault.startswith("base.pretrained.adapter: ")


def test_an_adapter_for_the_base_is_taken(model, tmp_path):
    assert tiny_report(model, adapter_for(tmp_path / "adapter", "somewhere/tiny-llama", 64)).faults == []
