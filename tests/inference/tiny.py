"""A random Llama of a few thousand weights over the embedded world's tokenizer, saved as a real model folder."""

import re
from collections import Counter
from pathlib import Path

import torch

from astro.tasks.countdown.wording import vocabulary
from astro.training.train_base import new_llama
from astro.training.wordlevel import build_tokenizer

CONTEXT = 96
PROMPT = "make 24 from 3 5 7 9\n"
LONG_PROMPT = "make 24 from " + "3 " * 60 + "9\n"


def save_tiny_model(folder: Path, *, seed: int = 0, heads: int = 2, sharpness: float = 8.0) -> Path:
    """Its output layer is scaled up by `sharpness`, so that probabilities are as uneven as a trained model's.

    Two heads are 32 wide each: the narrowest that vLLM's attention takes on CPU.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary(20), CONTEXT)
    model = new_llama(tokenizer, hidden=64, layers=2, heads=heads, ffn=48, context=CONTEXT)
    with torch.no_grad():
        model.lm_head.weight.mul_(sharpness)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def frequent_words(texts: list[str]) -> list[str]:
    """The words that are no numbers, line ends too, by how many texts hold them: stop strings that will be met.

    A number would not do: as text "3" stands in "13" too.
    """
    found = [word for text in texts for word in set(re.findall(r"\n|[^\s\d]+", text))]
    return [word for word, _ in Counter(found).most_common()]
