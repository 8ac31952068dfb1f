"""Engine over transformers' generate. It is slower than vLLM and runs wherever torch runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)
from transformers.utils.logging import disable_progress_bar

from astro.inference.engine import EngineError, Request
from astro.search import Sample
from astro.special_tokens import control_texts, encode_prompt, inert


class _SeededGumbel(LogitsProcessor):
    """Turns greedy decoding into sampling: argmax(logits / T + Gumbel noise), with a random generator per row.

    The draw of a row therefore depends on its own seed and not on its batch.
    """

    def __init__(self, seeds: list[int], temperatures: torch.Tensor):
        """Create the processor.

        Args:
            temperatures: shape (rows,); 0 keeps a row greedy.
        """
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperatures = temperatures[:, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (rows, vocabulary) -> noisy scores of the same shape."""
        draws = [torch.empty(scores.shape[-1]).exponential_(generator=g) for g in self.generators]
        noise = -torch.stack(draws).clamp_min(1e-30).log().to(scores.device)
        return torch.where(self.temperatures > 0, scores / self.temperatures.clamp_min(1e-6) + noise, scores)


class _StopStrings(StoppingCriteria):
    """Ends a row as soon as its last tokens, decoded, contain a stop string.

    The criterion of transformers fails on word-level tokenizers, because it derives the text of each token by tricks.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: list[str], width: int):
        """Create the criterion.

        Args:
            width: tokens of the (padded) prompt, which are ignored.
        """
        self.tokenizer, self.stop, self.width = tokenizer, stop, width
        # a stop string has no more tokens than bytes; its last character may span several tokens
        self.tail = max(len(s.encode()) for s in stop) + 4

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """input_ids: (rows, tokens so far) -> bool per row."""
        new = input_ids[:, self.width :][:, -self.tail :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return torch.tensor([any(s in text for s in self.stop) for text in texts], device=input_ids.device)


class _Watch(StoppingCriteria):
    """Reports the first row's text after each token. It never ends a row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, width: int, tell: Callable[[str], None]):
        """Create the criterion.

        Args:
            width: tokens of the (padded) prompt, which are ignored.
        """
        self.tokenizer, self.width, self.tell = tokenizer, width, tell

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """input_ids: (rows, tokens so far) -> bool per row."""
        text = str(self.tokenizer.decode(input_ids[0, self.width :], skip_special_tokens=True))
        self.tell(inert(text, control_texts(self.tokenizer)))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """All tokens that end a text. A chat model has several (end of turn, of message, of text)."""
    listed = model.generation_config.eos_token_id
    listed = listed if isinstance(listed, list) else [listed]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


class HfEngine:
    """`Engine` that answers its oldest outstanding requests in batches."""

    def __init__(
        self,
        model: Path | str,
        *,
        batch_size: int,
        dtype: str,
        max_model_len: int,
        revision: str | None = None,
        watch: Callable[[str], None] | None = None,
    ):
        """Load `model`.

        Args:
            watch: called with the text so far of the first sample of a batch, after each of its tokens.

        Raises:
            EngineError: transformers rejects the model, or its context is shorter than `max_model_len`.
        """
        disable_progress_bar()  # for loading weights
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(model), revision=revision, trust_remote_code=False)
            self._model = AutoModelForCausalLM.from_pretrained(
                str(model),
                revision=revision,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                trust_remote_code=False,
            ).eval()
        except (OSError, ValueError) as error:
            raise EngineError(f"transformers cannot load the model {model}: {error}") from None
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or max_model_len
        if context < max_model_len:
            raise EngineError(
                f"engine.max_model_len {max_model_len}: the model {model} has a context of {context} tokens"
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._ends = _end_ids(self._model, self._tokenizer)
        # A new config, because a temperature, top_p or repetition penalty of the model's authors would change the
        # sampling.
        self._model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends), pad_token_id=self._tokenizer.pad_token_id
        )
        self._batch_size, self._max_model_len, self._watch = batch_size, max_model_len, watch
        self._queue: list[tuple[int, Request, int]] = []  # ticket, request, tokens that fit after its prompt
        self._next = 0

    def submit(self, request: Request) -> int:
        """As `Engine.submit`. A prompt without room for a single token gets n empty, unfinished samples."""
        if self._model is None:
            raise EngineError("the engine is closed")
        ticket, self._next = self._next, self._next + 1
        room = self._max_model_len - len(encode_prompt(self._tokenizer, request.prompt))
        self._queue.append((ticket, request, min(request.max_tokens, room)))
        return ticket

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """Answer the oldest requests that share stop strings and length limit, up to `batch_size` sequences."""
        if not self._queue:
            raise EngineError("nothing is outstanding")
        first = self._queue[0][1]
        chosen: list[tuple[int, Request, int]] = []
        sequences = 0
        for entry in self._queue:
            request = entry[1]
            if (request.stop, request.max_tokens) == (first.stop, first.max_tokens) and (
                not chosen or sequences + request.n <= self._batch_size
            ):
                chosen.append(entry)
                sequences += request.n
        taken = {ticket for ticket, _, _ in chosen}
        self._queue = [entry for entry in self._queue if entry[0] not in taken]
        fitting = [(request, room) for _, request, room in chosen if room > 0]
        samples = iter(self._generate(fitting) if fitting else [])
        none = Sample("", 0.0, 0, False)
        return [
            (ticket, [next(samples) if room > 0 else none for _ in range(request.n)])
            for ticket, request, room in chosen
        ]

    @torch.inference_mode()
    def _generate(self, requests: list[tuple[Request, int]]) -> list[Sample]:
        """Samples of (request, room) pairs, one after the other. All rows run as long as the longest one, then each is cut."""
        rows = [(request, room, i) for request, room in requests for i in range(request.n)]
        prompts = {request.prompt: encode_prompt(self._tokenizer, request.prompt) for request, _, _ in rows}
        seeds = [request.seed + i for request, _, i in rows]
        temperatures = torch.tensor([request.temperature for request, _, _ in rows], device=self._device)
        ids = {"input_ids": [prompts[request.prompt] for request, _, _ in rows]}
        encoded = self._tokenizer.pad(ids, return_tensors="pt").to(self._device)
        width = encoded["input_ids"].shape[1]
        stop = list(requests[0][0].stop)
        criteria: list[StoppingCriteria] = [_StopStrings(self._tokenizer, stop, width)] if stop else []
        criteria += [_Watch(self._tokenizer, width, self._watch)] if self._watch else []
        wanted = any(request.logprobs for request, _ in requests)
        output = self._model.generate(
            **encoded,
            max_new_tokens=max(room for _, room in requests),
            do_sample=False,
            logits_processor=[_SeededGumbel(seeds, temperatures)],
            stopping_criteria=criteria or None,
            pad_token_id=self._tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=wanted,
        )
        new = output.sequences[:, width:]
        logprobs = self._logprobs(output.logits, new) if wanted else torch.zeros_like(new, dtype=torch.float)
        return [
            self._sample(ids[:room], row if request.logprobs else [], stop)
            for (request, room, _), ids, row in zip(rows, new.tolist(), logprobs.tolist(), strict=True)
        ]

    @staticmethod
    def _logprobs(logits: tuple[torch.Tensor, ...], new: torch.Tensor) -> torch.Tensor:
        """Log-probability of each new token at temperature 1, shape (rows, new tokens)."""
        columns = [
            step.float().log_softmax(-1).gather(1, new[:, i : i + 1]) for i, step in enumerate(logits[: new.shape[1]])
        ]
        return torch.cat(columns, dim=1)

    def _sample(self, ids: list[int], logprobs: list[float], stop: list[str]) -> Sample:
        """Cut a row after its end token or stop string; generate pads the rest."""
        length = next((i + 1 for i, token in enumerate(ids) if token in self._ends), None)
        finished = ended = length is not None
        text = str(self._tokenizer.decode(ids[:length], skip_special_tokens=True))
        cuts = [text.find(s) for s in stop if s in text]
        if cuts:
            finished = True
            if length is None or min(cuts) < len(text):
                ended = False
                text = text[: min(cuts)]
                length = next(
                    i + 1
                    for i in range(len(ids))
                    if any(s in self._tokenizer.decode(ids[: i + 1], skip_special_tokens=True) for s in stop)
                )
        length = length if length is not None else len(ids)
        text = inert(text, control_texts(self._tokenizer))
        return Sample(text, sum(logprobs[:length], 0.0), length, finished, ended)

    def unknown(self, text: str) -> str:
        """The first word of a text that the tokenizer does not know; "": it knows all."""
        unknown = self._tokenizer.unk_token_id
        if unknown is None or unknown not in encode_prompt(self._tokenizer, text):
            return ""
        words = text.split()
        return next((w for w in words if unknown in encode_prompt(self._tokenizer, w)), words[0] if words else text)

    def close(self) -> None:
        """Release the model."""
        self._queue.clear()
        self._model = None
