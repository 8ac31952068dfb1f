"""transformers' generate behind the engine Protocol: slower than vLLM, runs wherever torch does."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

from astro.engines.api import EngineError, Request
from astro.search import Sample


class _SeededGumbel(LogitsProcessor):
    """Turns greedy decoding into sampling: argmax(logits / T + Gumbel noise), the noise from a generator per row.

    So a row's draw depends on its own seed and not on the batch it happens to be in.
    """

    def __init__(self, seeds: list[int], temperatures: torch.Tensor):
        """temperatures: shape (rows,); 0 leaves a row greedy."""
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperatures = temperatures[:, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (rows, vocabulary) -> noisy scores of the same shape."""
        draws = [torch.empty(scores.shape[-1]).exponential_(generator=g) for g in self.generators]
        noise = -torch.stack(draws).clamp_min(1e-30).log().to(scores.device)
        return torch.where(self.temperatures > 0, scores / self.temperatures.clamp_min(1e-6) + noise, scores)


class HfEngine:
    """`Engine` that answers its oldest outstanding requests batch by batch."""

    def __init__(
        self, model: Path | str, *, batch_size: int, dtype: str, max_model_len: int, revision: str | None = None
    ):
        """Load `model`.

        Raises:
            EngineError: transformers does not take it.
        """
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(model), revision=revision)
            self._model = AutoModelForCausalLM.from_pretrained(
                str(model), revision=revision, dtype=dtype if dtype == "auto" else getattr(torch, dtype)
            ).eval()
        except (OSError, ValueError) as error:
            raise EngineError(f"transformers does not take the model {model}: {error}") from None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._batch_size, self._max_model_len = batch_size, max_model_len
        self._queue: list[tuple[int, Request]] = []
        self._next = 0

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        ticket, self._next = self._next, self._next + 1
        self._queue.append((ticket, request))
        return ticket

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """Answer the oldest requests that share stop strings and length limit, up to `batch_size` sequences."""
        if not self._queue:
            raise EngineError("nothing is outstanding")
        first = self._queue[0][1]
        chosen, sequences = [], 0
        for entry in self._queue:
            request = entry[1]
            if (request.stop, request.max_tokens) == (first.stop, first.max_tokens) and (
                not chosen or sequences + request.n <= self._batch_size
            ):
                chosen.append(entry)
                sequences += request.n
        taken = {ticket for ticket, _ in chosen}
        self._queue = [entry for entry in self._queue if entry[0] not in taken]
        samples = self._generate([request for _, request in chosen])
        answers, at = [], 0
        for ticket, request in chosen:
            answers.append((ticket, samples[at : at + request.n]))
            at += request.n
        return answers

    @torch.inference_mode()
    def _generate(self, requests: list[Request]) -> list[Sample]:
        prompts = [r.prompt for r in requests for _ in range(r.n)]
        seeds = [r.seed + i for r in requests for i in range(r.n)]
        temperatures = torch.tensor([r.temperature for r in requests for _ in range(r.n)], device=self._device)
        encoded = self._tokenizer(prompts, return_tensors="pt", padding=True).to(self._device)
        encoded.pop("token_type_ids", None)
        width = encoded["input_ids"].shape[1]
        room = min(requests[0].max_tokens, self._max_model_len - width)
        if room < 1:
            return [Sample("", 0.0, 0, False)] * len(prompts)
        stop = list(requests[0].stop)
        output = self._model.generate(
            **encoded,
            max_new_tokens=room,
            do_sample=False,
            logits_processor=[_SeededGumbel(seeds, temperatures)],
            stop_strings=stop or None,
            tokenizer=self._tokenizer if stop else None,
            pad_token_id=self._tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=requests[0].logprobs,
        )
        new = output.sequences[:, width:]
        logprobs = (
            self._logprobs(output.logits, new) if requests[0].logprobs else torch.zeros_like(new, dtype=torch.float)
        )
        return [self._sample(ids, lp, room, stop) for ids, lp in zip(new.tolist(), logprobs.tolist(), strict=True)]

    @staticmethod
    def _logprobs(logits: tuple[torch.Tensor, ...], new: torch.Tensor) -> torch.Tensor:
        """Log-probability of each new token at temperature 1, shape (rows, new tokens)."""
        columns = [
            step.float().log_softmax(-1).gather(1, new[:, i : i + 1]) for i, step in enumerate(logits[: new.shape[1]])
        ]
        return torch.cat(columns, dim=1)

    def _sample(self, ids: list[int], logprobs: list[float], room: int, stop: list[str]) -> Sample:
        """The row's own tokens: up to its end token or its stop string; generate pads what follows."""
        end = self._model.generation_config.eos_token_id
        ends = set(end if isinstance(end, list) else [end])
        length = next((i + 1 for i, token in enumerate(ids) if token in ends), None)
        finished = length is not None
        text = self._tokenizer.decode(ids[:length], skip_special_tokens=True)
        cuts = [text.find(s) for s in stop if s in text]
        if cuts:
            finished = True
            if length is None or min(cuts) < len(text):
                text = text[: min(cuts)]
                length = next(
                    i + 1
                    for i in range(len(ids))
                    if any(s in self._tokenizer.decode(ids[: i + 1], skip_special_tokens=True) for s in stop)
                )
        length = length if length is not None else min(len(ids), room)
        return Sample(text, sum(logprobs[:length]), length, finished)

    def close(self) -> None:
        """Drop the model."""
        self._queue.clear()
        self._model = None
