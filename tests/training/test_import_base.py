"""A pretrained base: what is taken, what is refused before it is copied, adapters merged into it."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from astro.files import atomic_path
from astro.process import UserError
from astro.training import import_base
from astro.training.common import load_causal_lm, save_model
from astro.training.safetensors_io import count, shapes
from tests.tiny_chat import write_tiny_chat


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_chat(tmp_path_factory.mktemp("base") / "tiny-llama", hidden=32, ffn=48, context=128)


def take(path, target, *, revision="", adapter=""):
    return import_base.take({"path": str(path), "revision": revision, "adapter": str(adapter)}, target)


def test_a_folder_is_copied_as_it_is_without_other_formats(base, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(base, source)
    (source / "original").mkdir()
    (source / "original" / "consolidated.00.pth").write_bytes(b"0" * 100)
    (source / "pytorch_model.bin").write_bytes(b"0" * 100)
    parameters, vocabulary = take(source, tmp_path / "out")
    kept = {p.name: p.read_bytes() for p in base.iterdir()}
    written = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    del kept["generation_config.json"], written["generation_config.json"]
    assert written == kept
    model = AutoModelForCausalLM.from_pretrained(base)
    assert parameters == sum(p.numel() for p in model.parameters()) == count(base)
    assert vocabulary == len(AutoTokenizer.from_pretrained(base))


def test_it_is_not_loaded_for_that(base, tmp_path, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    take(base, tmp_path / "out")


def test_a_snapshot_of_the_hub_is_taken_at_its_revision(base, tmp_path, monkeypatch):
    """The hub's cache holds links."""
    asked, cache = [], tmp_path / "cache"
    cache.mkdir()
    for file in base.iterdir():
        (cache / file.name).symlink_to(file)
    monkeypatch.setattr(import_base, "download", lambda path, revision: asked.append((path, revision)) or cache)
    take("meta-llama/Llama", tmp_path / "out", revision="0123abc")
    assert asked == [("meta-llama/Llama", "0123abc")]
    assert not any(p.is_symlink() for p in (tmp_path / "out").iterdir())
    assert shapes(tmp_path / "out") == shapes(base)


def test_other_weights_than_safetensors_are_written_as_such(base, tmp_path):
    source = tmp_path / "old"
    shutil.copytree(base, source, ignore=shutil.ignore_patterns("*safetensors*"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    config = json.loads((source / "config.json").read_text()) | {"dtype": "bfloat16"}
    (source / "config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    parameters, _ = take(source, tmp_path / "out")
    assert parameters == count(tmp_path / "out") == count(base)
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(tmp_path / "out").parameters()} == {torch.bfloat16}


BENT = {"no_repeat_ngram_size": 3, "repetition_penalty": 1.3, "temperature": 0.6, "top_p": 0.9, "max_length": 20}
"""Settings of sampling as authors publish them; a temperature without do_sample cannot be saved again."""


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_how_a_model_samples_is_not_for_its_authors_to_say(base, tmp_path, name):
    """Whichever file says it, and in training too: transformers takes from it what a call leaves open."""
    source = tmp_path / "source"
    shutil.copytree(base, source)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 8, 9], "bos_token_id": 0}))
    (source / name).write_text(json.dumps(json.loads((source / name).read_text()) | BENT))
    take(source, tmp_path / "out")
    loaded, _ = load_causal_lm(source, name="models/base")  # from elsewhere, e.g. an older run
    taken, tokenizer = load_causal_lm(tmp_path / "out", name="models/base")
    for model in (loaded, taken):
        found = model.generation_config
        assert set(found.eos_token_id) == {1, 8, 9}
        assert not set(BENT) & {key for key, value in found.to_diff_dict().items() if value is not None}
    for file in ("generation_config.json", "config.json"):
        assert not set(BENT) & set(json.loads((tmp_path / "out" / file).read_text()))
    save_model(taken, tokenizer, tmp_path / "again")
    repeated = torch.tensor([tokenizer("1 1 1 1 1 1 1 1", add_special_tokens=False)["input_ids"]])
    with torch.no_grad():  # makes the model repeat its last token for ever
        taken.lm_head.weight.zero_()
        taken.lm_head.weight[repeated[0, -1]] = 0.0
    out = taken.generate(repeated, max_new_tokens=30, do_sample=False)
    assert out.shape[1] == repeated.shape[1] + 30
    assert len(set(out[0, repeated.shape[1] :].tolist())) == 1


def test_a_generation_config_that_is_no_object_is_refused(base, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(base, source)
    (source / "generation_config.json").write_text("[1, 2]")
    with pytest.raises(
        UserError, match=r"base\.pretrained\.path: .*source: its generation_config\.json is not a JSON object"
    ):
        take(source, tmp_path / "out")


def without(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-10])


def no_weights_inside(folder):
    sorted(folder.glob("*.safetensors"))[0].write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))


def of_no_known_kind(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llamma"}))


def with_config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def with_file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def with_header(header):
    text = json.dumps(header).encode()
    return with_file("model-00001-of-00002.safetensors", len(text).to_bytes(8, "little") + text + b"0" * 64)


def not_a_number(folder):
    file = sorted(folder.glob("*.safetensors"))[1]
    weights = load_file(file)
    name = sorted(weights)[0]
    weights[name].view(-1)[-1] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})


def pickled(content):
    def write(folder):
        for file in folder.glob("*safetensors*"):
            file.unlink()
        (folder / "pytorch_model.bin").write_bytes(content)

    return write


class Harm:
    """Unpickling it runs code."""

    def __reduce__(self):
        return (print, ("HARM",))


def with_code(folder):
    with_config(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"})(folder)
    (folder / "own.py").write_text("raise SystemExit('HARM')")


def with_weights(change):
    """Weights that `change(name -> tensor)` has changed, in one file."""

    def write(folder):
        weights = {name: w for file in folder.glob("*.safetensors") for name, w in load_file(file).items()}
        for file in folder.glob("*safetensors*"):
            file.unlink()
        save_file(change(weights) or weights, folder / "model.safetensors", metadata={"format": "pt"})

    return write


def with_archive(change):
    """The same in torch's own format."""

    def write(folder):
        weights = {name: w for file in folder.glob("*.safetensors") for name, w in load_file(file).items()}
        changed = change(weights)
        pickled(b"")(folder)
        torch.save(weights if changed is None else changed, folder / "pytorch_model.bin")

    return write


UP = "model.layers.1.mlp.up_proj.weight"


def a_reward_model(weights):
    del weights["lm_head.weight"]
    weights["score.weight"] = torch.zeros(1, 32)


def an_old_model_that_lacks_one(weights):
    del weights[UP]
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)


def without_a_head(weights):
    del weights["lm_head.weight"]
    return {name.removeprefix("model."): w for name, w in weights.items()}


def of_other_names(weights):
    return {f"transformer.{name}": w for name, w in weights.items()}


def without_one(weights):
    del weights[UP]


def not_finite(weights):
    weights[UP][0, 0] = torch.inf


def tied_in_its_settings_alone(folder):
    with_weights(lambda weights: None)(folder)
    with_config(tie_word_embeddings=True)(folder)


def with_more_bytes(folder):
    with_weights(lambda weights: None)(folder)
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")


def with_link_to_nowhere(folder):
    (folder / "LICENSE").symlink_to(folder / "gone")


NO_MAP = r"model\.safetensors\.index\.json does not map the names of weights to files of this folder"
BROKEN = [
    (with_code, r"needs code of its own \(auto_map\), which is never run; use a model whose architecture"),
    (with_file("config.json", b"[]"), r"is not a model that transformers can load"),
    (with_config(hidden_size="wide"), r"is not a model that transformers can load.*hidden_size"),
    (with_config(num_attention_heads=0), r"is not a model that transformers can load"),
    (
        with_config(num_hidden_layers=9),
        r"its weights lack \d+ of \d+ tensors that its config\.json requires, the first is model",
    ),
    (with_file("tokenizer.json", b"{}"), r"is not a model that transformers can load"),
    (
        with_file("model.safetensors", b""),
        r"it has both model\.safetensors and model\.safetensors\.index\.json; remove",
    ),
    (with_file("model.safetensors.index.json", b"[]"), NO_MAP),
    (with_file("model.safetensors.index.json", b'{"weight_map": {"x": "../other/x.safetensors"}}'), NO_MAP),
    (with_header([1]), r"model-00001-of-00002\.safetensors is not a safetensors file"),
    (with_header({"x": {"shape": [1]}}), r"model-00001-of-00002\.safetensors is not a safetensors file"),
    (with_header({"x": 5}), r"model-00001-of-00002\.safetensors is not a safetensors file"),
    (not_a_number, r"has weights that are not finite; fetch it again"),
    (pickled(pickle.dumps(Harm())), r"is not a model|cannot load the model.*(safetensors|pickle)"),
    (pickled(b"PK\x03\x04 cut"), r"is not a model|cannot load the model"),
    # weights that transformers would draw at random, whatever else the file holds
    (with_weights(a_reward_model), r"its weights lack 1 of 21 tensors .*, the first is lm_head\.weight"),
    (with_weights(an_old_model_that_lacks_one), rf"its weights lack 1 of 21 tensors .*, the first is {UP}"),
    (with_weights(without_a_head), r"its weights lack 1 of 21 tensors .*, the first is lm_head\.weight"),
    (with_weights(of_other_names), r"its weights lack 21 of 21 tensors"),
    (with_archive(without_one), rf"its weights lack 1 of 21 tensors .*, the first is {UP}"),
    (with_archive(lambda weights: {"x": weights}), r"its weights lack 21 of 21 tensors|is not a model"),
    (with_archive(lambda weights: [1, 2]), r"is not a model that transformers can load"),
    (with_archive(not_finite), rf"{UP} has weights that are not finite; fetch it again"),
    # models that engines and trainers would read differently, or not at all
    (with_config(quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantised \(gptq\), so it cannot"),
    (
        with_file("adapter_config.json", b"{}"),
        r"holds an adapter .* beside its weights.* name that in base\.pretrained",
    ),
    (tied_in_its_settings_alone, r"its config\.json ties lm_head\.weight to model\.embed_tokens\.weight, but"),
    (with_more_bytes, r"model\.safetensors is damaged: .*; fetch it again|is not a model that transformers can load"),
    (with_link_to_nowhere, r"LICENSE cannot be copied: .*; fetch it again"),
    # (what is done to a good model, what is said)
    (without("config.json"), r"is not a model that transformers can load"),
    (without("tokenizer.json"), r"is not a model that transformers can load"),
    (
        without("model-00002-of-00002.safetensors"),
        r"missing weight files: 1 of 2, the first is model-00002-of-00002",
    ),
    (cut, r"model-00001-of-00002\.safetensors is cut short"),
    (no_weights_inside, r"model-00001-of-00002\.safetensors is not a safetensors file, or is cut short"),
    (of_another_shape, r"mlp\.\S+ has shape \[\d+, \d+\], but its config\.json requires"),
    (of_no_known_kind, r"is not a model that transformers can load.*llamma"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_model_is_refused_before_it_is_published(base, tmp_path, monkeypatch, capfd, broken, said):
    source = tmp_path / "source"
    shutil.copytree(base, source)
    broken(source)
    asked = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")  # nor is the user asked to run code
    expected = pytest.raises(UserError, match=r"base\.pretrained\.path: .*source.*" + said)
    with expected as refused, atomic_path(tmp_path / "out") as out:  # as the stage does it
        take(source, out)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert not asked
    assert "HARM" not in capfd.readouterr().out


def test_a_hub_id_is_to_be_pinned(tmp_path):
    with pytest.raises(
        UserError,
        match=r"a/b is not a model folder; if it is a hub id, set base\.pretrained\.revision to a commit or tag",
    ):
        take("a/b", tmp_path / "out")


def test_what_the_hub_does_not_give_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"base\.pretrained\.path: a/b could not be loaded from the hub at revision 'v1'"
    ):
        take("a/b", tmp_path / "out", revision="v1")


def test_an_adapter_is_merged_in_the_precision_of_the_base(base, tmp_path):
    from peft import LoraConfig, get_peft_model

    source = tmp_path / "tiny-llama"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(source)
    AutoTokenizer.from_pretrained(base).save_pretrained(source)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(source), LoraConfig(r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    model.save_pretrained(tmp_path / "adapter")
    parameters, _ = take(source, tmp_path / "out", adapter=tmp_path / "adapter")
    merged, plain = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "out", source))
    assert parameters == count(source)
    assert merged.dtype == torch.bfloat16
    same = {name: torch.equal(a, b) for (name, a), b in zip(merged.named_parameters(), plain.parameters(), strict=True)}
    assert same["model.embed_tokens.weight"]
    assert not same["model.layers.0.self_attn.q_proj.weight"]
    with pytest.raises(UserError, match=r"base\.pretrained\.adapter: .* is not a PEFT adapter"):
        take(source, tmp_path / "again", adapter=base)


def test_weights_without_a_place_are_named(base, tmp_path, capsys):
    """transformers leaves them out: here the layers above the one that config.json speaks of."""
    source = tmp_path / "source"
    shutil.copytree(base, source)
    with_config(num_hidden_layers=1)(source)
    take(source, tmp_path / "out")
    assert (
        "source: 9 tensors of its weights are not used, because its config.json has no place for them, the first is "
        in (capsys.readouterr().out)
    )


def test_a_tied_model_may_hold_its_output_layer_twice(base, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(base, source)
    with_weights(lambda weights: weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()})(source)
    with_config(tie_word_embeddings=True)(source)
    take(source, tmp_path / "out")
    assert shapes(tmp_path / "out") == shapes(source)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder)
    return folder


def with_lora(change):
    """An adapter whose tensors `change` has changed."""

    def write(folder):
        weights = load_file(folder / "adapter_model.safetensors")
        save_file(change(weights) or weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    return write


def with_adapter_config(**changes):
    def change(folder):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
BROKEN_ADAPTERS = [
    (
        with_lora(lambda w: {n.removeprefix("base_model.model."): t for n, t in w.items()}),
        r"cannot be merged.*lack 28 of 28",
    ),
    (with_lora(lambda w: {n: t for n, t in w.items() if "lora_B" not in n}), r"its weights lack 14 of 28 tensors"),
    (with_lora(lambda w: {n: t for n, t in w.items() if "layers.1." not in n}), r"its weights lack 14 of 28 tensors"),
    (with_lora(lambda w: {"foo": torch.ones(2)}), r"its weights lack 28 of 28 tensors"),
    (with_lora(lambda w: w | {"foo": torch.ones(2)}), r"the model has no place for its foo"),
    (with_lora(lambda w: w | {Q: torch.ones(4)}), r"lora_A\.weight has shape \[4\], but LoRA needs a matrix"),
    (with_lora(lambda w: w | {Q: w[Q] * torch.nan}), r"q_proj\.weight has weights that are not finite; fetch it again"),
    (with_adapter_config(r=3), r"cannot be merged: .*size mismatch"),
    (with_adapter_config(r="two"), r"cannot be merged"),
    (with_adapter_config(peft_type="IA3"), r"is a IA3 adapter; only LoRA adapters can be merged"),
    (with_file("adapter_config.json", b"[]"), r"has no peft_type in its adapter_config\.json"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN_ADAPTERS)
def test_an_adapter_that_would_not_be_merged_as_a_whole_is_refused(base, adapter, tmp_path, broken, said):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    take(base, tmp_path / "good", adapter=folder)
    broken(folder)
    with pytest.raises(UserError, match=rf"base\.pretrained\.adapter: {folder}.*{said}") as refused:
        take(base, tmp_path / "out", adapter=folder)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
