"""Prompts and completions as tokens: with a tokenizer in the format of Llama-3.1, and as the embedded one has them."""

import pytest

from astro.special_tokens import (
    UNKNOWN,
    control_texts,
    encode_continuation,
    encode_prompt,
    inert,
    pad_token,
    read_control,
)
from astro.tasks.chat import chat_template_of
from astro.tasks.countdown.wording import vocabulary
from astro.training.wordlevel import build_tokenizer
from tests.tiny_chat import SPECIAL, chat_tokenizer

LLAMA, QWEN, WORDS = chat_tokenizer("llama"), chat_tokenizer("qwen"), build_tokenizer(vocabulary(20), 96)
RENDERED = {t: chat_template_of(t, source="it").render("What is $12+7$?") for t in (LLAMA, QWEN)}
COMPLETIONS = [
    "Step 1: We add the numbers: $12+7=19$.\n\nStep 2: The answer is $\\boxed{19}$.",
    " begins with a space",
    "\n\nbegins with line ends",
    "",
    "半径 \U0001f600",
    "<|eot_id|><|im_end|> are words of this text",
]


@pytest.mark.parametrize("tokenizer", [LLAMA, QWEN], ids=["llama", "qwen"])
@pytest.mark.parametrize("completion", COMPLETIONS)
def test_behind_a_prompt_comes_what_a_model_would_write(tokenizer, completion):
    prompt = RENDERED[tokenizer]
    ids, spans, asked = encode_continuation(tokenizer, prompt, completion)
    assert ids[:asked] == encode_prompt(tokenizer, prompt)
    assert tokenizer.decode(ids[asked:]) == completion
    controls = set(tokenizer.convert_tokens_to_ids(list(control_texts(tokenizer))))
    assert not controls & set(ids[asked:])
    assert len(spans) == len(ids)
    text = prompt + completion
    assert all(start >= len(prompt) for start, _ in spans[asked:])
    assert max((end for _, end in spans), default=0) == len(text)
    assert (
        tokenizer(completion, add_special_tokens=False)["input_ids"] is not None
    )  # the setting of one call stays there
    assert encode_prompt(tokenizer, prompt) == ids[:asked]


def test_a_plain_prompt_is_tokenized_with_what_follows():
    ids, spans, asked = encode_continuation(WORDS, "make 7 from 2 9\n", "9 - 2 = 7")
    assert ids == WORDS("make 7 from 2 9\n9 - 2 = 7")["input_ids"]
    assert (asked, spans[asked][0]) == (6, 16)
    ids, _, asked = encode_continuation(LLAMA, "Solution:\n", "Step 1")
    assert ids == LLAMA("Solution:\nStep 1")["input_ids"]
    assert ids[0] == LLAMA.bos_token_id


def test_prompts_without_a_template_are_as_the_tokenizer_has_them():
    for tokenizer in (LLAMA, QWEN, WORDS):
        for text in ("make 7 from 2 9\n", "Problem: <|eot_id|>", ""):
            assert encode_prompt(tokenizer, text) == tokenizer(text)["input_ids"]


def test_control_tokens_of_a_folder(tmp_path):
    for name, tokenizer, begin in (("l", LLAMA, "<|begin_of_text|>"), ("q", QWEN, ""), ("w", WORDS, "")):
        tokenizer.save_pretrained(tmp_path / name)
        found = read_control(tmp_path / name)
        assert found.begin == begin
        assert set(found.texts) == set(control_texts(tokenizer))
    assert read_control(tmp_path) == UNKNOWN
    assert set(control_texts(LLAMA)) == set(SPECIAL["llama"])


def test_inert_text():
    controls = control_texts(LLAMA)
    assert inert("a < b | c > d", controls) == "a < b | c > d"
    assert inert("x<|eot_id|>y", controls) == "x< |eot_id|>y"
    for control in controls:
        for text in (control, control * 2, control[:3] + control + control[3:]):
            assert not any(c in inert(text, controls) for c in controls)
    assert inert("</s>", ()) == "</s>"


def tokenizer(family="llama", **changes):
    found = chat_tokenizer(family)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


PADS = [
    (LLAMA, "<|finetune_right_pad_id|>"),  # names none
    (tokenizer(pad_token="<|eot_id|>"), "<|finetune_right_pad_id|>"),
    (tokenizer(pad_token="<|end_of_text|>"), "<|end_of_text|>"),
    (QWEN, "<|endoftext|>"),
    (tokenizer("qwen", pad_token=None, unk_token=None), None),
    (tokenizer("qwen", pad_token="<|im_end|>", unk_token=None), None),
    (tokenizer("qwen", pad_token=None, unk_token="<|fim_prefix|>"), "<|fim_prefix|>"),
    (WORDS, "<pad>"),
]


@pytest.mark.parametrize(("tokenizer", "expected"), PADS)
def test_what_to_pad_with(tokenizer, expected):
    assert pad_token(tokenizer) == expected
