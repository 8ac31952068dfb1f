"""A world of mathematics problems that a model learns in seconds: sums of two small numbers, written as MATH-style solutions.

The model is pretrained here to write short solutions, right and wrong ones, so that every stage of the pipeline has some of
both to work with.
"""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from astro.domains.math import Math
from astro.training.pretrain import new_llama
from schemas.records import Problem

LARGEST = 5
WRONG = 0.3
"""Share of solutions in the corpus that come to another number."""


def question(a: int, b: int) -> str:
    """The question as a user's file has it."""
    return f"What is ${a}+{b}$?"


def solution(a: int, b: int, result: int) -> str:
    """Two steps and a boxed answer."""
    return f"Step 1: We add the numbers: ${a}+{b}={result}$.\n\nStep 2: The answer is $\\boxed{{{result}}}$."


def pairs() -> list[tuple[int, int]]:
    """All problems, in an order that mixes easy and hard."""
    found = [(a, b) for a in range(1, LARGEST + 1) for b in range(1, LARGEST + 1)]
    random.Random(0).shuffle(found)
    return found


def write_problems(folder: Path) -> dict[str, dict[str, str]]:
    """train.jsonl (plain), rl.jsonl (as GSM8K), eval.jsonl (as MATH) in `folder`; what `problems.files` says of them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pairs()
    train = [{"id": f"t{i}", "question": question(a, b), "answer": a + b} for i, (a, b) in enumerate(drawn[:12])]
    rl = [{"question": question(a, b), "answer": f"{a} + {b} = {a + b}\n#### {a + b}"} for a, b in drawn[12:18]]
    evals = [{"problem": question(a, b), "level": "Level 1", "solution": solution(a, b, a + b)} for a, b in drawn[18:]]
    train.append({"id": "leak", "question": question(*drawn[20]).replace("$", " $ "), "answer": sum(drawn[20])})
    for name, rows in (("train", train), ("rl", rl), ("eval", evals)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "train": {"path": "train.jsonl"},
        "rl": {"path": "rl.jsonl", "preset": "gsm8k"},
        "eval_sums": {"path": "eval.jsonl", "preset": "math"},
    }


def documents(rng: random.Random, count: int) -> list[str]:
    """Prompts of the domain with solutions of which a good part are wrong."""
    domain, found = Math(), []
    for _ in range(count):
        a, b = rng.choice(pairs())
        result = a + b + (rng.choice((-1, 1, 2)) if rng.random() < WRONG else 0)
        asked = Problem(id="p", domain="math", question=question(a, b), gold=str(a + b), level=1, chance=None)
        found.append(domain.prompt(asked) + solution(a, b, result))
    return found


def write_model(folder: Path, *, steps: int = 280, batch: int = 24, seed: int = 0) -> float:
    """Train the model and save it with its tokenizer; its last loss, nats per token."""
    rng = random.Random(seed)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        documents(rng, 500),
        trainers.BpeTrainer(vocab_size=420, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side="right"
    )
    torch.manual_seed(seed)
    model = new_llama(tokenizer, hidden=64, layers=2, heads=2, ffn=192, context=448)
    prompt = len(tokenizer(documents(rng, 1)[0].rpartition("Step 1:")[0])["input_ids"]) if steps else 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        texts = [text + tokenizer.eos_token for text in documents(rng, batch)]
        rows = tokenizer(texts, return_tensors="pt", padding=True)
        labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
        labels[:, :prompt] = -100  # the prompts differ in two tokens: to predict them teaches nothing
        loss = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss.item()
