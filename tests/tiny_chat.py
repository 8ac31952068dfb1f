"""A Llama-3.1 or Qwen2.5 of a few ten thousand weights in the format of the real ones: byte-level BPE, special tokens, chat
template, sharded safetensors, a generation config with several end ids.

The templates are the models' own; TRL ships them. What a real model has trained in, this one learns with `teach`.
"""

import importlib.util
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from os.path import commonprefix
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

Family = Literal["llama", "qwen"]
SPECIAL: dict[str, list[str]] = {
    "llama": [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        "<|finetune_right_pad_id|>",
        "<|reserved_special_token_2|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
        "<|reserved_special_token_3|>",
    ],
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|fim_prefix|>", "<|fim_suffix|>"],
}
"""In the order of the real vocabularies, where they stand behind all other tokens."""
END = {"llama": "<|eot_id|>", "qwen": "<|im_end|>"}
"""What ends a turn."""
ENDS = {"llama": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"], "qwen": ["<|im_end|>", "<|endoftext|>"]}
"""End ids of the generation config."""
PAD = {"llama": None, "qwen": "<|endoftext|>"}
"""Llama-3.1's tokenizer comes without a pad token."""
WORDS = {  # how text is cut before BPE; they differ in numbers: up to three digits, or each digit
    family: "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
    + digits
    + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    for family, digits in (("llama", "\\p{N}{1,3}"), ("qwen", "\\p{N}"))
}
TEXT = [
    "Solve the following problem one step at a time. Number the steps and leave a blank line between two of them.",
    "The last step holds the final answer as \\boxed{answer}, with nothing after it.",
    "What is $12+7$? We add the numbers: $12+7=19$.\n\nStep 2: The answer is $\\boxed{19}$.",
    "## Step 1: Find the length of the hypotenuse\nThe legs are $3$ and $4$, so it is $\\sqrt{3^2+4^2} = 5$.\n\n## Step 2: Add",
    "system user assistant Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 You are a helpful assistant.",
    "Wait, that does not look right. Let me go back to the step where we began, and try another way.",
]


def chat_template(family: Family) -> str:
    """The template of Llama-3.1-Instruct or Qwen2.5-Instruct, as TRL has it."""
    (trl,) = importlib.util.find_spec("trl").submodule_search_locations
    name = {"llama": "llama3_1", "qwen": "qwen2_5"}[family]
    return (Path(trl) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def chat_tokenizer(
    family: Family = "llama",
    *,
    texts: Iterable[str] = (),
    vocabulary: int = 512,
    template: bool = True,
    pad: str | None = "",
    context: int = 1024,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocabulary` tokens learnt from `texts` and `TEXT`, and the family's special tokens behind them.

    Args:
        pad: the pad token; None: there is none; "": as the real tokenizer has it (`PAD`).
    """
    core = Tokenizer(models.BPE(ignore_merges=family == "llama"))
    if family == "qwen":
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS[family]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [re.sub("|".join(map(re.escape, SPECIAL[family])), " ", text) for text in (*TEXT, *texts)],
        trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False),
    )
    core.add_special_tokens(SPECIAL[family])
    if family == "llama":
        begin = "<|begin_of_text|>"
        core.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single=f"{begin}:0 $A:0",
                    pair=f"{begin}:0 $A:0 {begin}:1 $B:1",
                    special_tokens=[(begin, core.token_to_id(begin))],
                ),
            ]
        )
    else:
        core.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin_of_text|>" if family == "llama" else None,
        eos_token=END[family],
        pad_token=PAD[family] if pad == "" else pad,
        chat_template=chat_template(family) if template else None,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def write_tiny_chat(
    folder: Path,
    *,
    family: Family = "llama",
    seed: int = 0,
    shards: int = 2,
    texts: Iterable[str] = (),
    vocabulary: int = 512,
    template: bool = True,
    pad: str | None = "",
    context: int = 1024,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    kv_heads: int = 1,
    ffn: int = 128,
    sharpness: float = 8.0,
) -> Path:
    """A model folder with random weights.

    Args:
        shards: safetensors files, about.
        texts: what the tokenizer learns its merges from, besides `TEXT`.
        vocabulary: tokens without the special ones.
        template, pad, context: as `chat_tokenizer`; context also is `max_position_embeddings`.
        sharpness: the output layer is scaled up by it, so that probabilities are as uneven as a trained model's; 1.0 before
            `teach`.

    Returns:
        The folder.
    """
    tokenizer = chat_tokenizer(family, texts=texts, vocabulary=vocabulary, template=template, pad=pad, context=context)
    ends = tokenizer.convert_tokens_to_ids(ENDS[family])
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.convert_tokens_to_ids(SPECIAL[family][0]),
        "eos_token_id": ends if family == "llama" else tokenizer.eos_token_id,
    }
    torch.manual_seed(seed)
    if family == "llama":
        scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
        scaling["original_max_position_embeddings"] = context // 2
        config = LlamaConfig(**shape, rope_parameters={"rope_theta": 500000.0, **scaling})
    else:
        config = Qwen2Config(**shape, rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(sharpness)
    generation = model.generation_config
    generation._from_model_config = False  # a file of its own, as the real models have
    generation.eos_token_id, generation.bos_token_id = ends, config.bos_token_id
    generation.do_sample, generation.temperature, generation.top_p = True, 0.6, 0.9
    if family == "qwen":
        generation.pad_token_id = tokenizer.pad_token_id
        generation.repetition_penalty, generation.top_k = 1.05, 20
    _save(model, folder, shards)
    tokenizer.save_pretrained(folder)
    if family == "llama":  # as the real file has it: the keys of the transformers that Llama-3.1 came with
        written = json.loads((folder / "config.json").read_text())
        written.pop("rope_parameters")
        written |= {"rope_theta": 500000.0, "rope_scaling": scaling}
        (folder / "config.json").write_text(json.dumps(written, indent=2))
    return folder


def _save(model, folder: Path, shards: int) -> None:
    sizes = [p.numel() * p.element_size() for p in model.parameters()]
    model.save_pretrained(folder, max_shard_size=sum(sizes) if shards == 1 else sum(sizes) // shards + max(sizes) // 2)


def teach(
    folder: Path,
    pairs: Callable[[random.Random, int], Sequence[tuple[str, str]]],
    *,
    steps: int = 280,
    batch: int = 24,
    lr: float = 4e-3,
    seed: int = 0,
    shards: int = 2,
) -> float:
    """Train the model in `folder` and save it there again; its last loss, nats per token of the answers.

    Args:
        pairs: (random source, count) -> (rendered prompt with its BOS, what the assistant writes, without its end).
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    end, rng = tokenizer.eos_token_id, random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        rows = []
        for prompt, answer in pairs(rng, batch):
            asked = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            rows.append((tokenizer(prompt + answer, add_special_tokens=False)["input_ids"] + [end], asked))
        # What all prompts begin with is computed once: most of a prompt is the same for all problems.
        shared = len(commonprefix([ids[: asked - 1] for ids, asked in rows]))
        width = max(len(ids) for ids, _ in rows) - shared
        tokens = torch.full((batch, width), end)
        labels = torch.full((batch, width), -100)
        for i, (ids, asked) in enumerate(rows):
            tokens[i, : len(ids) - shared] = torch.tensor(ids[shared:])
            labels[i, asked - shared : len(ids) - shared] = torch.tensor(ids[asked:])
        known = None
        if shared:
            known = model(input_ids=torch.tensor([rows[0][0][:shared]]), use_cache=True).past_key_values
            known.batch_repeat_interleave(batch)
        # what stands behind an end is not looked at by what is before
        loss = model(input_ids=tokens, past_key_values=known, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    _save(model, folder, shards)
    return loss.item()
