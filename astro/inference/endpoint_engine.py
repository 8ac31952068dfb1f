"""Engine over any OpenAI-compatible completions endpoint, such as vLLM's server. Each request in flight has its own thread."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from astro.inference.engine import EngineError, Request
from astro.process import plural
from astro.search import Sample
from astro.special_tokens import UNKNOWN, Control, inert

if TYPE_CHECKING:
    from openai.types import Completion, CompletionChoice

TOO_LONG = "maximum context length"
"""Phrase in the error of vLLM's servers (and OpenAI's) for a prompt that leaves no room for `max_tokens`."""

WIDEST_TOKEN = 256
"""Upper bound of the average characters per token. A longer text means that the endpoint ignored `max_tokens`."""

NEUTRAL_OF_VLLM = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling values that a vLLM server would otherwise take from the model's generation_config.json. Other servers may reject
these names.
"""

BACK_OFF_S = (1.0, 30.0)
"""First and longest wait, in seconds, for an unavailable endpoint. Each wait is twice the previous one."""


class UnusableAnswer(EngineError):
    """The endpoint returned an answer that does not match the request."""


class EndpointEngine:
    """`Engine` over HTTP.

    The openai client retries a failed request (no connection, time-out, 408, 409, 429, 5xx) `retries` times with exponential
    back-off; this class does the same for an unusable answer. An endpoint that is gone for longer may be restarting, so the
    engine waits up to `wait_timeout_s` since its last answer. After that the run fails. A rejected request (400) fails at once,
    except that a request too long for the model is repeated with as many tokens as fit, possibly none.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        api_key: str,
        timeout_s: float,
        retries: int,
        concurrency: int,
        wait_timeout_s: float = 0.0,
        control: Control = UNKNOWN,
    ):
        """Connect and ask the endpoint for its models. There is no waiting here, because the address may be wrong.

        Args:
            control: special tokens of the tokenizer that renders the prompts. An endpoint itself adds the token that
                begins every text, so it is removed from the prompts.

        Raises:
            EngineError: it does not answer, or serves no model called `model` ("": the first model that it serves).
        """
        import openai

        self._errors = openai.OpenAIError
        self._gone = (openai.APIConnectionError, openai.InternalServerError)
        self._refused = openai.BadRequestError
        self._url, self._retries, self._wait_timeout_s = url, retries, wait_timeout_s
        self._control = control
        self._ended, self._answered = threading.Event(), time.monotonic()
        self._client = openai.OpenAI(base_url=url, api_key=api_key or "none", timeout=timeout_s, max_retries=retries)
        try:
            models = list(self._client.models.list())
            served = [m.id for m in models]
        except openai.OpenAIError as error:
            raise EngineError(f"execution.endpoint.url {url}: the endpoint does not answer ({error})") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise EngineError(f"execution.endpoint.url {url}: invalid list of models ({error!r})") from None
        if model and model not in served:
            raise EngineError(f"engine.endpoint.model: {url} serves {served}, but not {model!r}")
        if not served:
            raise EngineError(f"execution.endpoint.url {url}: the endpoint serves no model")
        self._model = model or served[0]
        ours = next(m for m in models if m.id == self._model)
        self._neutral = NEUTRAL_OF_VLLM if getattr(ours, "owned_by", "") == "vllm" else None
        self._pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="endpoint")
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        self._next = self._outstanding = 0

    def submit(self, request: Request) -> int:
        """As `Engine.submit`."""
        ticket = self._next
        try:
            self._pool.submit(self._ask, ticket, request)
        except RuntimeError:
            raise EngineError("the engine is closed") from None
        self._next += 1
        self._outstanding += 1
        return ticket

    def _ask(self, ticket: int, request: Request) -> None:
        """Run one request in a thread of the pool. The thread always puts something on the queue."""
        try:
            samples = self._persist(request)
            self._answered = time.monotonic()
            self._answers.put((ticket, samples))
        except Exception as error:  # the polling thread raises it
            self._answers.put((ticket, error))

    def _persist(self, request: Request) -> list[Sample]:
        """Answer a request, with as many tries as needed."""
        wait, unusable = BACK_OFF_S[0], 0
        while True:
            try:
                return self._fitted(request)
            except UnusableAnswer:
                unusable += 1
                if unusable > self._retries:
                    raise
            except self._gone:
                if time.monotonic() - self._answered + wait > self._wait_timeout_s:
                    raise
            if self._ended.wait(wait):
                raise EngineError("the engine is closed")
            wait = min(2 * wait, BACK_OFF_S[1])

    def _fitted(self, request: Request) -> list[Sample]:
        """Answer a request. If it is too long for the model, the number of tokens is halved until it fits."""
        limit = request.max_tokens
        while limit:
            try:
                return self._once(request, limit)
            except self._refused as error:
                if TOO_LONG not in str(error):
                    raise
                limit //= 2
        return [Sample("", 0.0, 0, False)] * request.n

    def _once(self, request: Request, max_tokens: int) -> list[Sample]:
        """Send a request once, apart from the client's own retries.

        Raises:
            UnusableAnswer: the answer is not n samples of at most `max_tokens`.
            openai.OpenAIError: there was no answer.
        """
        try:
            answer = self._client.completions.create(
                model=self._model,
                prompt=request.prompt.removeprefix(self._control.begin),
                n=request.n,
                max_tokens=max_tokens,
                temperature=request.temperature,
                top_p=1.0,
                presence_penalty=0.0,
                frequency_penalty=0.0,
                extra_body=self._neutral,
                stop=list(request.stop) or None,
                seed=request.seed,
                logprobs=0 if request.logprobs else None,
            )
            choices = sorted(answer.choices, key=lambda c: c.index)
            if len(choices) != request.n:
                raise UnusableAnswer(
                    f"execution.endpoint.url {self._url}: {plural(len(choices), 'choice')} received, requested: "
                    f"{request.n}"
                )
            samples = [self._sample(c, answer, request) for c in choices]
        except (EngineError, *self._gone, self._refused):
            raise
        except self._errors as error:
            raise self._judged(error) from error
        except Exception as error:
            raise UnusableAnswer(f"execution.endpoint.url {self._url}: unusable answer: {error!r}") from error
        for sample in samples:
            if sample.tokens > max_tokens + 1 or len(sample.text) > WIDEST_TOKEN * max_tokens:
                raise UnusableAnswer(
                    f"execution.endpoint.url {self._url}: invalid answer: {sample.tokens} tokens and "
                    f"{len(sample.text)} characters received, but at most {max_tokens} tokens requested"
                )
        return samples

    def _judged(self, error: Exception) -> Exception:
        """Turn the client's error about a malformed answer into UnusableAnswer. Other errors stay as they are."""
        import openai

        if isinstance(error, openai.APIResponseValidationError):
            return UnusableAnswer(f"execution.endpoint.url {self._url}: invalid answer: {error}")
        return error

    def _sample(self, choice: "CompletionChoice", answer: "Completion", request: Request) -> Sample:
        if not isinstance(choice.text, str):
            raise TypeError(f"a choice has no text but {choice.text!r}")
        text, finished = inert(choice.text, self._control.texts), choice.finish_reason == "stop"
        # vLLM's servers report what stopped a text: a stop string, or no string for an end token
        reason = getattr(choice, "stop_reason", "unknown")
        ended = finished and (reason is None or isinstance(reason, int))
        logprobs = choice.logprobs.token_logprobs if choice.logprobs else None
        if logprobs is None:
            # without logprobs the server reports only the token sum over all n choices
            tokens = (answer.usage.completion_tokens if answer.usage else 0) // request.n
            if request.logprobs:
                raise EngineError("the endpoint sends no logprobs; set mcts.prior to uniform")
            return Sample(text, 0.0, tokens, finished, ended)
        known = [value for value in logprobs if value is not None]
        return Sample(text, float(sum(known)), len(logprobs), finished, ended)

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if not self._outstanding:
            raise EngineError("nothing is outstanding")
        answered = [self._answers.get()]
        while not self._answers.empty():
            answered.append(self._answers.get())
        self._outstanding -= len(answered)
        for _, answer in answered:
            if isinstance(answer, self._errors):
                raise EngineError(
                    f"execution.endpoint.url {self._url}: request failed after all retries: {answer}"
                ) from answer
            if isinstance(answer, Exception):
                raise answer
        return answered

    def close(self) -> None:
        """Drop queued requests and end the threads."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._outstanding = 0
