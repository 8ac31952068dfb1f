"""TRL's own methods behind our overrides are those that the overrides were written for."""

import ast
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from astro.training.trl_overrides import OVERRIDDEN, TRL

SEEN = {
    "import_utils.py:is_vllm_available": "9a8613bc07f45567",
    "trainer/grpo_trainer.py:GRPOTrainer._tokenize_prompts": "6ce32d1366b5fb58",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_single_turn": "0db039bf190940ad",
    "trainer/grpo_trainer.py:GRPOTrainer._generate": "2f5bcd1dfe35e73f",
    "trainer/grpo_trainer.py:GRPOTrainer._generate_and_score_completions": "3344fb4baad1ed6b",
    "trainer/grpo_trainer.py:GRPOTrainer._compute_loss": "84d6cf614bec4014",
    "trainer/grpo_trainer.py:GRPOTrainer._prepare_inputs": "97c440ac0594f10e",
    "trainer/grpo_trainer.py:GRPOTrainer._get_per_token_logps_and_entropies": "4d0f49f21d6449f9",
    "trainer/grpo_trainer.py:GRPOTrainer._get_train_sampler": "837d056dde670bb4",
    "trainer/utils.py:RepeatSampler": "5ea1884e56090acc",
    "trainer/grpo_trainer.py:GRPOTrainer._log_metric": "0847ac05c486c3bf",
    "generation/vllm_generation.py:VLLMGeneration.generate": "9413ba1f7f1a1644",
    "generation/vllm_client.py:VLLMClient.generate": "70212897bff5ea15",
    "generation/vllm_generation.py:VLLMGeneration._init_vllm": "255302825d3b8d12",
    "generation/vllm_generation.py:VLLMGeneration.sync_weights": "9ce83a04fd3d9825",
    "generation/vllm_generation.py:VLLMGeneration._iter_named_params": "7dd68ecb8a51695b",
    "trainer/grpo_trainer.py:GRPOTrainer.__init__": "03f2a54da22152c2",
}


def source_of(target: str) -> str:
    """Source of "file.py:Class.method" in TRL, without importing it."""
    file, _, name = target.partition(":")
    (root,) = importlib.util.find_spec("trl").submodule_search_locations
    text = (Path(root) / file).read_text(encoding="utf-8")
    found = ast.parse(text)
    for part in name.split("."):
        found = next(node for node in found.body if getattr(node, "name", None) == part)
    return ast.get_source_segment(text, found)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("target", OVERRIDDEN)
def test_what_is_overridden_has_not_changed(target):
    found = digest_of(source_of(target))
    assert found == SEEN[target], (
        f"TRL {importlib.metadata.version('trl')} changed {target} since {TRL}. Look again at: {OVERRIDDEN[target]} "
        f"(astro/training/trl_overrides.py), then set SEEN[{target!r}] = {found!r} here and TRL there"
    )


def test_the_version_is_the_one_that_was_looked_at():
    assert importlib.metadata.version("trl") == TRL, (
        "TRL was changed: see the other test here, then set trl_overrides.TRL"
    )


def test_a_change_is_noticed():
    target = "trainer/grpo_trainer.py:GRPOTrainer._tokenize_prompts"
    assert digest_of(source_of(target).replace("prompts", "texts", 1)) != SEEN[target]
