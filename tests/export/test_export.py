"""What is exported of a finished run, by the libraries that others will read it with; what is refused."""

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard
from ruamel.yaml import YAML

from astro.export.__main__ import main
from astro.export.card import serving
from astro.export.card_text import public
from astro.export.source_run import read_run
from astro.files import read_json, read_jsonl
from astro.process import UserError
from astro.tasks import get_task
from astro.tasks.chat import load_chat_template
from astro.tracking import store
from schemas.evaluate import EvalMetrics
from schemas.records import Trace, Tree
from tests.pipeline.checkout import Checkout
from tests.tiny_chat import write_tiny_chat
from tests.viz.example import make_problem

pytestmark = pytest.mark.slow  # a checkout, DVC and MLflow: half a minute for all


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


# ---------------------------------------------------------------------------------------------------------------- model


def test_the_model_loads_and_has_the_same_weights(finished: Checkout, exported: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exported)
    ours, theirs = (AutoModelForCausalLM.from_pretrained(f) for f in (exported, finished.root / "models/grpo"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    tokens = tokenizer("make 18 from 3 5 7 9\n", return_tensors="pt")["input_ids"]
    assert tokenizer.unk_token_id not in tokens
    assert (exported / "generation_config.json").is_file()


def test_the_same_run_gives_the_same_bytes(finished: Checkout, exported: Path, monkeypatch: pytest.MonkeyPatch):
    """Also after a commit that has nothing to do with it, and to another folder."""
    monkeypatch.setenv("ASTRO_TRACKING", "off")
    (finished.root / "NOTES").write_text("later")
    finished.commit("Something else")
    monkeypatch.chdir(finished.root)
    main(["--to", "again"])
    assert hashes(finished.root / "again") == hashes(exported)


# ----------------------------------------------------------------------------------------------------------------- card


def test_the_card_loads_and_its_figures_are_those_of_the_metrics(finished: Checkout, exported: Path):
    card, metrics = ModelCard.load(exported / "README.md"), read_json(finished.root / "metrics/eval.json", EvalMetrics)
    found = {(r.dataset_name, r.metric_type): r for r in card.data.eval_results}
    for name, models in metrics.sets.items():
        for kind, e in (("pass@1", models["grpo"].pass_at_1), ("maj@8", models["grpo"].maj_at_k)):
            shown = found.pop((name, kind))
            assert shown.metric_value == pytest.approx(100 * e.value, abs=0.005)
            assert shown.metric_args["low_95"] == pytest.approx(100 * e.low, abs=0.005)
            assert shown.metric_args["high_95"] == pytest.approx(100 * e.high, abs=0.005)
            assert (shown.metric_args["problems"], shown.metric_args["seed"]) == (e.n, metrics.seed)
            in_table = f"{100 * e.value:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"
            assert f"| {name} | ASTRO-RL | {e.n} |" in card.text
            assert in_table in card.text
    assert not found
    assert f"{metrics.samples} samples a problem" in card.text


def test_the_card_has_all_params_and_all_md5s(finished: Checkout, exported: Path):
    text = (exported / "README.md").read_text()
    shown = YAML(typ="safe").load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    assert shown == YAML(typ="safe").load(finished.root / "params.yaml")
    lock = finished.lock()
    manifest = json.loads((exported / "provenance.json").read_bytes())
    for stage in ("problems", "base", "mcts", "linearize", "sft@astro", "grpo@astro", "eval"):
        for kind in ("deps", "outs"):
            for entry in lock[stage][kind]:
                assert manifest["stages"][stage][kind][entry["path"]] == entry["md5"]
                assert entry["md5"] in text or entry["path"].startswith("records/")
    commit = finished.run("git", "log", "-1", "--format=%H", "--", "dvc.lock").out.strip()
    assert (manifest["commit"], manifest["md5"]) == (commit, finished.md5("models/grpo"))
    assert commit in text
    assert {k: v for k, v in hashes(exported).items() if k != "provenance.json"} == manifest["sha256"]


def test_sizes_and_training_are_those_of_the_metrics(exported: Path):
    text = (exported / "README.md").read_text()
    for said in ("| problems: train | 3 |", "| search trees | 3 |", "3 go back, 0 do not", "7 steps, 896 completions"):
        assert said in text
    assert "Direct-SFT: " not in text, "the comparator's training is none of this model's"


def test_no_machine_shows(finished: Checkout, exported: Path):
    for path in exported.rglob("*"):
        if path.is_file():
            assert str(finished.root.parent).encode() not in path.read_bytes(), path


PUBLIC = [
    ("/data/models/Llama-3.1-8B", "Llama-3.1-8B"),  # a folder of the machine
    ("~/models/own/", "own"),
    ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),  # a hub id stays
    ("http://me:secret@host:8000/v1", "http://host:8000/v1"),
    ({"a": ["/x/y", 3, None]}, {"a": ["y", 3, None]}),
]


@pytest.mark.parametrize(("value", "shown"), PUBLIC)
def test_params_are_shown_without_folders_and_passwords(value: object, shown: object):
    assert public(value) == shown


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_the_requests_of_a_chat_model_are_the_prompts_of_its_training(
    family: str, finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The template makes of the messages what the model was trained on; the text of the other request is that."""
    from transformers import AutoTokenizer

    problem = make_problem("p", 24, [3, 5, 7, 9]).model_copy(update={"question": 'What\'s 3 + 4, "please"?'})
    write_tiny_chat(tmp_path, family=family)
    monkeypatch.chdir(finished.root)
    run = read_run("grpo")
    asked = run.params.run.model_copy(update={"prompt": "chat", "task": "math"})
    prompt = get_task("math", chat=load_chat_template(tmp_path)).prompt(problem)
    params = run.params.model_copy(update={"run": asked})
    text = serving(replace(run, params=params, prompt=prompt, question=problem.question), "own")
    lines = [shlex.split(line) for line in re.search(r"```\n(.*?)```", text, re.DOTALL)[1].splitlines()]
    by_messages, by_text = (json.loads(line[-1]) for line in lines[1:])
    rendered = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        by_messages["messages"], tokenize=False, add_generation_prompt=True, **by_messages["chat_template_kwargs"]
    )
    assert rendered == by_text["prompt"] == prompt
    assert by_text["add_special_tokens"] is False


# ------------------------------------------------------------------------------------------------------------- data set


def test_the_data_set_loads_with_its_splits(finished: Checkout, exported: Path, tmp_path: Path):
    from datasets import load_dataset

    folder = str(exported / "dataset")
    chains = load_dataset(folder, cache_dir=str(tmp_path))
    assert list(chains) == ["train", "direct"]
    for split in chains:
        traces = list(read_jsonl(finished.root / f"data/traces/{split}.jsonl", Trace))
        assert [r["completion"] for r in chains[split]] == [t.completion for t in traces]
        for row, trace in zip(chains[split], traces, strict=True):
            assert row["segments"] == [s.model_dump() for s in trace.segments]
            assert row["traces_md5"] == finished.md5(f"data/traces/{split}.jsonl")
            assert (row["trees_md5"], row["seed"], row["gold"]) == (finished.md5("data/trees"), 1, "24")
    trees = load_dataset(folder, "trees", split="train", cache_dir=str(tmp_path))
    made = [t for shard in ("00", "01") for t in read_jsonl(finished.root / f"data/trees/{shard}.jsonl", Tree)]
    assert [r["nodes"] for r in trees] == [len(t.nodes) for t in made]
    assert [r["correct_ends"] for r in trees] == [sum(n.verdict == "correct" for n in t.nodes) for t in made]
    assert DatasetCard.load(exported / "dataset/README.md").data.configs[0]["config_name"] == "traces"


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.fixture
def workspace(finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A copy to spoil, entered; nothing is tracked."""
    copy = finished.copy(tmp_path / "astro")
    monkeypatch.chdir(copy.root)
    monkeypatch.setenv("ASTRO_TRACKING", "off")
    return copy


def test_changed_files_and_params_are_named_and_refused(workspace: Checkout):
    with (workspace.root / "data/traces/train.jsonl").open("a") as file:
        file.write("\n")
    workspace.set_param("grpo.lr", 0.5)
    with pytest.raises(UserError) as refused:
        main([])
    for said in (
        "stage linearize: data/traces/train.jsonl modified",
        "stage sft@astro: data/traces/train.jsonl modified",
        "stage grpo@astro: grpo in params.yaml modified",
    ):
        assert said in str(refused.value)
    assert not (workspace.root / "export").exists()
    with pytest.raises(UserError, match="--alias"):
        main(["--allow-stale", "--alias", "production"])
    main(["--allow-stale"])
    card = (workspace.root / "export/grpo/README.md").read_text()
    assert "**Not the files of one run.**" in card
    assert "stage grpo@astro: grpo in params.yaml modified" in card


def test_stages_that_have_not_run_are_named_even_if_stale_files_are_allowed(workspace: Checkout):
    (workspace.root / "metrics/eval.json").unlink()
    workspace.forget("grpo@astro")
    for arguments in ([], ["--allow-stale"]):
        with pytest.raises(UserError, match=r"stage grpo@astro, eval: not run"):
            main(arguments)
    (workspace.root / "dvc.lock").unlink()
    with pytest.raises(UserError, match=r"dvc\.lock: no such file"):
        main([])


def test_only_an_export_is_replaced_and_only_when_asked(workspace: Checkout):
    own = workspace.root / "export/grpo"
    own.mkdir(parents=True)
    (own / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an export"):
        main(["--replace"])
    assert (own / "thesis.txt").read_text() == "mine"
    (own / "provenance.json").write_text("{}")
    with pytest.raises(UserError, match="--replace"):
        main([])
    main(["--replace"])
    assert sorted(p.name for p in own.parent.iterdir()) == ["grpo"], "nothing half-written is left"
    assert not (own / "thesis.txt").exists()


SPOILED = [
    ("config.json", None, "no config.json"),
    ("model.safetensors", None, "no safetensors weights"),
    ("tokenizer.json", None, "has no tokenizer"),
    ("model.safetensors.index.json", {"weight_map": {"a": "model-00002-of-00002.safetensors"}}, "shards are missing"),
]


@pytest.mark.parametrize(("name", "content", "said"), SPOILED)
def test_a_folder_that_could_not_be_loaded_is_refused(name: str, content: object, said: str, workspace: Checkout):
    from astro.export.model_files import model_files

    path = workspace.root / "models/grpo" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        model_files(path.parent)


def test_an_adapter_alone_is_refused_and_pickles_are_left_out(workspace: Checkout):
    from astro.export.model_files import model_files

    folder = workspace.root / "models/grpo"
    (folder / "training_args.bin").write_bytes(b"pickle")
    assert "training_args.bin" not in {p.name for p in model_files(folder)}
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="only a LoRA adapter"):
        model_files(folder)


def test_the_licence_of_the_base_goes_with_the_model(workspace: Checkout):
    base = workspace.root / "models/base"
    (base / "README.md").write_text("---\nlicense: llama3.1\nlicense_link: LICENSE\n---\n# Llama\n")
    (base / "LICENSE").write_text("terms")
    workspace.run("dvc", "commit", "--force")
    main([])
    out = workspace.root / "export/grpo"
    assert (out / "LICENSE").read_text() == "terms"
    assert ModelCard.load(out / "README.md").data.license == "llama3.1"


# ------------------------------------------------------------------------------------------------------------- registry


def test_the_registry_has_the_alias_and_where_it_went(
    finished: Checkout, exported: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "ASTRO_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(finished.root)
    main(["--to", str(exported), "--replace", "--alias", "production"])
    client = store.load(finished.root).MlflowClient()
    production, candidate = (client.get_model_version_by_alias("astro", a) for a in ("production", "candidate"))
    assert production.version == candidate.version, "the same weights are one version"
    assert production.tags["dvc.md5"] == finished.md5("models/grpo")
    assert production.tags["export.folder"] == str(exported)
    assert production.tags["export.commit"] == read_run("grpo").commit
    for alias in ("latest", "v3", "to be shipped", "a/b"):
        with pytest.raises(UserError, match="alias"):
            main(["--alias", alias])
    with pytest.raises(UserError, match="--name"):
        main(["--name", "two words"])
