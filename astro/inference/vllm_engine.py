"""Engine over vLLM in this process. Requests join the running batch as they arrive, and finished ones leave it."""

import json
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from astro.hardware import vllm_dtype
from astro.inference.engine import EngineError, Request
from astro.search import Sample
from astro.special_tokens import control_texts, encode_prompt, inert

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from schemas.engine import Dtype

# vLLM reads both when it is imported. One process starts in 4 s instead of 55 s on a CPU, and a kill leaves no orphan.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings, a page per start, do not help our users
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# Not bound to cores, because two processes bound to the same core (or the training after the engine) would crawl.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class VllmEngine:
    """`Engine` over one `vllm.LLM`.

    A sample depends only on its request, because vLLM draws each sequence from its own generator with seed + i. If
    `seeded` is off, all sequences share one generator and depend on the batch.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        concurrency: int,
        max_model_len: int,
        dtype: "Dtype",
        block_size: int,
        kv_cache_gb: float,
        gpu_memory_utilization: float,
        tensor_parallel_size: int,
        enforce_eager: bool,
        prefix_caching: bool = True,
        seeded: bool = True,
        revision: str | None = None,
    ):
        """Load `model`.

        Raises:
            EngineError: vLLM cannot be imported or rejects the model.
        """
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, round(kv_cache_gb))))
        # Silences what vLLM logs before it reads its own settings, and a warning about a renamed function of torch.
        logging.getLogger("vllm").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "`torch.distributed.reduce_op`", FutureWarning)
        try:
            import torch
            from vllm import LLM, SamplingParams
            from vllm.sampling_params import RequestOutputKind
        except ImportError as error:
            raise EngineError(
                f"engine.kind vllm: vLLM cannot be imported ({error}); install the cpu or gpu extra"
            ) from None
        on_gpu = torch.cuda.is_available()
        options: dict[str, Any] = {"gpu_memory_utilization": gpu_memory_utilization} if on_gpu else {}
        if not on_gpu:
            # With chunked prefill a seeded request crashes on a CPU if its prefill is split over two steps.
            options |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(8192, max_model_len)}
        try:
            self._llm: Any = LLM(
                model=str(model),
                revision=revision,
                trust_remote_code=False,
                dtype=vllm_dtype(dtype),
                max_model_len=max_model_len,
                max_num_seqs=concurrency,
                block_size=block_size,
                tensor_parallel_size=tensor_parallel_size,
                enforce_eager=enforce_eager,
                enable_prefix_caching=prefix_caching,
                disable_log_stats=True,
                use_tqdm_on_load=False,
                seed=0,  # unused, because every request has its own seed
                generation_config="vllm",  # only the end tokens of the model's own file, not its sampling settings
                **options,
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"vLLM cannot load the model {model}: {error}") from error
        self._engine: Any = self._llm.llm_engine
        self._tokenizer = self._llm.get_tokenizer()
        self._model, self._max_model_len, self._seeded = Path(model), max_model_len, seeded
        self._params, self._final = SamplingParams, RequestOutputKind.FINAL_ONLY
        self._next = 0
        self._outstanding: dict[int, int] = {}  # ticket -> number of copies of its samples (greedy ones are all equal)
        self._failed = ""
        self._early: list[tuple[int, list[Sample]]] = []
        self._stop_ids: dict[tuple[str, ...], list[int] | None] = {}
        self._string_ids: set[int] = set()  # tokens that equal a whole stop string

    def _single_token_stops(self, stop: tuple[str, ...]) -> list[int] | None:
        """Token ids of the stop strings if each is always a single token (word-level tokenizers), else None."""
        if stop not in self._stop_ids:
            ids = None
            core = getattr(self._tokenizer, "backend_tokenizer", None)
            if core is not None and type(core.model).__name__ == "WordLevel":
                encoded = [self._tokenizer.encode(s, add_special_tokens=False) for s in stop]
                ids = [e[0] for e in encoded] if all(len(e) == 1 for e in encoded) else None
            self._stop_ids[stop] = ids
            self._string_ids.update(ids or [])
        return self._stop_ids[stop]

    def submit(self, request: Request) -> int:
        """As `Engine.submit`. A prompt without room for a single token gets n empty, unfinished samples."""
        if self._llm is None:
            raise EngineError("the engine is closed")
        if self._failed:
            raise EngineError(self._failed)
        ticket, self._next = self._next, self._next + 1
        prompt = encode_prompt(cast("PreTrainedTokenizerBase", self._tokenizer), request.prompt)
        room = self._max_model_len - len(prompt)
        if room < 1:
            self._early.append((ticket, [Sample("", 0.0, 0, False)] * request.n))
            return ticket
        stop_ids = self._single_token_stops(request.stop)
        copies = request.n if request.temperature == 0 else 1  # vLLM rejects n > 1 for greedy sampling
        params = self._params(
            n=request.n // copies,
            temperature=request.temperature,
            max_tokens=min(request.max_tokens, room),
            seed=request.seed if self._seeded else None,
            stop=None if stop_ids is not None else list(request.stop),
            stop_token_ids=stop_ids,
            logprobs=0 if request.logprobs else None,
            detokenize=stop_ids is None,
            output_kind=self._final,
        )
        self._engine.add_request(str(ticket), {"prompt_token_ids": prompt}, params)
        self._outstanding[ticket] = copies
        return ticket

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if self._failed:
            raise EngineError(self._failed)
        answered, self._early = self._early, []
        while not answered:
            if not self._outstanding:
                raise EngineError("nothing is outstanding")
            for output in self._step():
                if output.finished:
                    ticket = int(output.request_id)
                    copies = self._outstanding.pop(ticket)
                    samples = [self._sample(o) for o in sorted(output.outputs, key=lambda o: o.index)]
                    answered.append((ticket, samples * copies))
        return answered

    def _step(self) -> list:
        """Run one step of the engine. After a failure it never runs again, because its state is unknown and it may hang."""
        try:
            return self._engine.step()
        except Exception as error:
            self._failed = f"vLLM failed: {type(error).__name__}: {error}"
            raise EngineError(self._failed) from error

    def _sample(self, output: Any) -> Sample:
        ids = list(output.token_ids)
        text = output.text
        if not text and ids:
            # The stop token of a sample is not part of its text (vLLM did not detokenize it).
            kept = ids[:-1] if output.finish_reason == "stop" and output.stop_reason is not None else ids
            text = self._tokenizer.decode(kept, skip_special_tokens=True)
        finished = output.finish_reason == "stop"
        # No reason means the tokenizer's own end token. A number means another end token of the generation config, or a
        # stop string
        # that is a single token (and never an end token).
        reason = output.stop_reason
        ended = finished and (reason is None or (isinstance(reason, int) and reason not in self._string_ids))
        text = inert(text, control_texts(self._tokenizer))
        return Sample(text, float(output.cumulative_logprob or 0.0), len(ids), finished, ended)

    def load(self, model: Path) -> bool:
        """See `astro.inference.engine.load_weights`. Possible for a model that differs only in its weights."""
        if self._llm is None or self._failed or self._outstanding or not differ_in_weights_alone(self._model, model):
            return False
        if model == self._model:
            return True
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(model)})
        except Exception as error:
            self._failed = f"vLLM cannot load the weights of {model}: {type(error).__name__}: {error}"
            raise EngineError(self._failed) from error
        self._model = model
        self.reset_prefix_cache()
        return True

    def reset_prefix_cache(self) -> None:
        """Clear the prefix cache (for benchmarks). Nothing may be outstanding."""
        self._engine.reset_prefix_cache()

    def close(self) -> None:
        """Shut down the engine and free its memory."""
        if self._llm is None:
            return
        import gc

        from vllm.distributed import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        self._llm = self._engine = None
        self._outstanding.clear()
        gc.collect()
        cleanup_dist_env_and_memory()


def differ_in_weights_alone(one: Path, other: Path) -> bool:
    """Whether two model folders have the same settings and the same tokenizer.

    Models with tied embeddings are excluded, because vLLM loads new weights into a running model but keeps a part of the old
    ones.
    """
    if not (one.is_dir() and other.is_dir()):
        return False
    settings, others = (
        {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file() and not _holds_weights(f.name)}
        for folder in (one, other)
    )
    tied = json.loads(settings.get("config.json", b"{}")).get("tie_word_embeddings", True)  # the default is true
    return settings == others and not tied


def _holds_weights(name: str) -> bool:
    """Whether a file of a model folder holds weights, or the index of the weight files."""
    return name.endswith((".safetensors", ".safetensors.index.json"))
