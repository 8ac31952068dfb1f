"""Any OpenAI-compatible completions endpoint: vLLM's server, or another. One thread per request in flight."""

import queue
from concurrent.futures import ThreadPoolExecutor

from astro.engines.api import EngineError, Request
from astro.search import Sample


class EndpointEngine:
    """`Engine` over HTTP. The openai client retries with exponential back-off; what fails after that fails the run."""

    def __init__(self, url: str, *, model: str, api_key: str, timeout_s: float, retries: int, concurrency: int):
        """Ask the endpoint for its models.

        Raises:
            EngineError: it does not answer, or serves no model called `model` ("": the first one it serves).
        """
        import openai

        self._errors = openai.OpenAIError
        self._url = url
        self._client = openai.OpenAI(base_url=url, api_key=api_key or "none", timeout=timeout_s, max_retries=retries)
        try:
            served = [m.id for m in self._client.models.list()]
        except openai.OpenAIError as error:
            raise EngineError(f"engine.endpoint.url {url}: the endpoint does not answer ({error})") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise EngineError(f"engine.endpoint.url {url}: the list of models is unusable ({error!r})") from None
        if model and model not in served:
            raise EngineError(f"engine.endpoint.model: {url} serves {served}, not {model!r}")
        if not served:
            raise EngineError(f"engine.endpoint.url {url}: the endpoint serves no model")
        self._model = model or served[0]
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
        """Runs in a thread of the pool; whatever happens, something is put on the queue."""
        try:
            answer = self._client.completions.create(
                model=self._model,
                prompt=request.prompt,
                n=request.n,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                stop=list(request.stop) or None,
                seed=request.seed,
                logprobs=0 if request.logprobs else None,
            )
            choices = sorted(answer.choices, key=lambda c: c.index)
            if len(choices) != request.n:
                raise EngineError(
                    f"engine.endpoint.url {self._url}: {len(choices)} choices came, {request.n} were asked for"
                )
            self._answers.put((ticket, [self._sample(c, answer, request) for c in choices]))
        except Exception as error:  # handed to the polling thread, which raises it
            self._answers.put((ticket, error))

    @staticmethod
    def _sample(choice, answer, request: Request) -> Sample:
        if not isinstance(choice.text, str):
            raise TypeError(f"a choice has no text but {choice.text!r}")
        logprobs = choice.logprobs.token_logprobs if choice.logprobs else None
        if logprobs is None:
            # without logprobs the server reports only the sum of tokens over all n choices
            tokens = (answer.usage.completion_tokens if answer.usage else 0) // request.n
            if request.logprobs:
                raise EngineError("the endpoint sends no logprobs; use mcts.prior uniform with it")
            return Sample(choice.text, 0.0, tokens, choice.finish_reason == "stop")
        known = [value for value in logprobs if value is not None]
        return Sample(choice.text, float(sum(known)), len(logprobs), choice.finish_reason == "stop")

    def poll(self) -> list[tuple[int, list[Sample]]]:
        """As `Engine.poll`."""
        if not self._outstanding:
            raise EngineError("nothing is outstanding")
        answered = [self._answers.get()]
        while not self._answers.empty():
            answered.append(self._answers.get())
        self._outstanding -= len(answered)
        for _, answer in answered:
            if isinstance(answer, EngineError):
                raise answer
            if isinstance(answer, self._errors):
                raise EngineError(
                    f"engine.endpoint.url {self._url}: request failed after all retries: {answer}"
                ) from answer
            if isinstance(answer, Exception):
                raise EngineError(f"engine.endpoint.url {self._url}: unusable answer: {answer!r}") from answer
        return answered

    def close(self) -> None:
        """Drop what is queued and end the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._outstanding = 0
