"""A world of mathematics problems that a model learns in seconds: sums of two small numbers, written as MATH-style solutions.

The model, a chat model in the format of Llama-3.1, is taught here to write short solutions, right and wrong ones, so that
every stage of the pipeline has some of both to work with.
"""

import json
import random
from functools import partial
from pathlib import Path

from astro.tasks.chat import ChatTemplate, chat_template_of
from astro.tasks.math.task import Math
from schemas.records import Problem
from tests.tiny_chat import chat_tokenizer, teach, write_tiny_chat

LARGEST = 5
CONTEXT = 640
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


def examples(chat: ChatTemplate, rng: random.Random, count: int) -> list[tuple[str, str]]:
    """(rendered prompt of the task, solution), of which a good part are wrong."""
    task, found = Math(chat=chat), []
    for _ in range(count):
        a, b = rng.choice(pairs())
        result = a + b + (rng.choice((-1, 1, 2)) if rng.random() < WRONG else 0)
        asked = Problem(id="p", task="math", question=question(a, b), gold=str(a + b), level=1, chance=None)
        found.append((task.prompt(asked), solution(a, b, result)))
    return found


def write_model(folder: Path, *, steps: int = 450, batch: int = 24, seed: int = 0) -> float:
    """A chat model in the format of Llama-3.1, taught to solve these problems; its last loss, nats per token."""
    chat = chat_template_of(chat_tokenizer(), source="tests")
    texts = [prompt + answer for prompt, answer in examples(chat, random.Random(seed), 100)]
    write_tiny_chat(folder, seed=seed, texts=texts, vocabulary=640, ffn=192, context=CONTEXT, sharpness=1.0)
    return teach(folder, partial(examples, chat), steps=steps, batch=batch, seed=seed)
