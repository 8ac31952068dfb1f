"""EndpointEngine against a real HTTP server on this machine that speaks the completions JSON, well or badly."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from astro.execution.scheduler import generate
from astro.inference.endpoint_engine import EndpointEngine
from astro.inference.engine import EngineError, Request
from astro.inference.factory import open_engine
from astro.params import load_params
from astro.special_tokens import Control, read_control
from tests.tiny_chat import chat_tokenizer

MODEL = "tiny"


class Server:
    """Serves `models`; each completion request is answered by `answer(body) -> (status, body)`; bodies are kept."""

    def __init__(self, answer, models=(MODEL,), port=0, owner=None):
        self.asked, self.keys = [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def reply(self, status, body):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                server.keys.append(self.headers["Authorization"])
                listed = {"object": "list", "data": [{"id": m, "object": "model", "owned_by": owner} for m in models]}
                self.reply(200, models if isinstance(models, bytes) else listed)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                self.reply(*answer(body))

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def serve():
    started = []

    def begin(answer=lambda body: (200, completion(body)), models=(MODEL,), owner=None):
        started.append(Server(answer, models, owner=owner))
        return started[-1]

    yield begin
    for server in started:
        server.close()


def completion(body, **changes):
    """What a completions endpoint answers: choice i continues the prompt with seed + i."""
    choices = [
        {
            "index": i,
            "text": f"{body['prompt']}{body['seed'] + i}",
            "finish_reason": "stop",
            "logprobs": None
            if body.get("logprobs") is None
            else {"tokens": ["a", "b"], "token_logprobs": [-0.5, -0.25]},
        }
        | changes
        for i in range(body["n"])
    ]
    usage = {"prompt_tokens": 1, "completion_tokens": 3 * body["n"], "total_tokens": 1 + 3 * body["n"]}
    return {"id": "x", "object": "text_completion", "created": 0, "model": MODEL, "choices": choices, "usage": usage}


@pytest.fixture
def connect():
    opened = []

    def begin(url, *, model="", api_key="", concurrency=4, **patience):
        patience = {"timeout_s": 5.0, "retries": 0} | patience
        engine = EndpointEngine(url, model=model, api_key=api_key, concurrency=concurrency, **patience)
        opened.append(engine)
        return engine

    yield begin
    for engine in opened:
        engine.close()


def request(**changes):
    values = {"prompt": "p", "n": 2, "max_tokens": 9, "temperature": 0.5, "stop": ("\n",), "seed": 5, "logprobs": True}
    return Request(**(values | changes))


def endpoint_params(url, **changes):
    """params.engine and params.execution for the endpoint at `url`."""
    params = load_params(Path("params.yaml"))
    engine = params.engine.model_copy(
        update={"kind": "endpoint", "endpoint": params.engine.endpoint.model_copy(update={"model": MODEL})}
    )
    endpoint = params.execution.endpoint.model_copy(update={"url": url, **changes})
    return engine, params.execution.model_copy(update={"endpoint": endpoint})


def answer_of(engine, one):
    ticket = engine.submit(one)
    ((answered, samples),) = engine.poll()
    assert answered == ticket
    return samples


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_request_arrives_as_it_was_made_and_is_answered(serve, connect):
    server = serve()
    samples = answer_of(connect(server.url), request())
    assert [(s.text, s.logprob, s.tokens, s.finished) for s in samples] == [
        ("p5", -0.75, 2, True),
        ("p6", -0.75, 2, True),
    ]
    (asked,) = server.asked
    expected = {"model": MODEL, "prompt": "p", "n": 2, "max_tokens": 9, "temperature": 0.5, "stop": ["\n"], "seed": 5}
    assert {k: asked[k] for k in expected} == expected
    assert asked["logprobs"] == 0  # of the chosen token only


@pytest.mark.parametrize(("owner", "known"), [("vllm", True), ("organization-owner", False), (None, False)])
def test_nothing_of_how_to_sample_is_left_to_the_server(serve, connect, owner, known):
    """A server fills what is left open from the model's generation_config.json; others than vLLM may refuse its names."""
    server = serve(owner=owner)
    answer_of(connect(server.url), request())
    (asked,) = server.asked
    assert (asked["top_p"], asked["presence_penalty"], asked["frequency_penalty"]) == (1.0, 0.0, 0.0)
    names = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert {name: asked[name] for name in names if name in asked} == (names if known else {})


def test_without_logprobs_tokens_come_from_the_usage(serve, connect):
    server = serve()
    samples = answer_of(connect(server.url), request(logprobs=False, stop=()))
    assert [(s.logprob, s.tokens) for s in samples] == [(0.0, 3), (0.0, 3)]
    assert server.asked[0].get("stop") is None
    assert server.asked[0].get("logprobs") is None


def test_samples_are_in_the_order_of_their_seeds(serve, connect):
    def reversed_choices(body):
        answer = completion(body)
        return 200, answer | {"choices": answer["choices"][::-1]}

    assert [s.text for s in answer_of(connect(serve(reversed_choices).url), request(n=3))] == ["p5", "p6", "p7"]


def test_a_sample_cut_by_the_limit_is_not_finished(serve, connect):
    server = serve(lambda body: (200, completion(body, finish_reason="length")))
    assert [s.finished for s in answer_of(connect(server.url), request())] == [False, False]


def test_many_requests_are_in_flight_at_once_and_each_is_answered_once(serve, connect):
    """The server holds the first four until all four are there: one after the other would never end."""
    together = threading.Barrier(4, timeout=10)

    def wait(body):
        if int(body["prompt"]) < 4:
            together.wait()
        return 200, completion(body)

    engine = connect(serve(wait).url, concurrency=4)
    answers = generate([request(prompt=str(i), n=1) for i in range(20)], engine=engine, concurrency=20)
    assert [a[0].text for a in answers] == [f"{i}5" for i in range(20)]
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()


def test_the_named_model_is_asked_for_and_the_key_is_sent(serve, connect):
    server = serve(models=("first", "second"))
    answer_of(connect(server.url, model="second", api_key="s3cret"), request())
    assert server.asked[0]["model"] == "second"
    assert server.keys == ["Bearer s3cret"]


def test_params_open_it_with_the_key_from_the_environment(serve, monkeypatch):
    server = serve()
    monkeypatch.setenv("MY_KEY", "from-env")
    params, execution = endpoint_params(server.url, api_key_env="MY_KEY", timeout_s=5.0, retries=0, wait_timeout_s=0.0)
    engine = open_engine(params, execution, "models/base")
    assert [s.text for s in answer_of(engine, request())] == ["p5", "p6"]
    engine.close()
    assert server.keys == ["Bearer from-env"]


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429])  # a crash, a start-up, too much at once
def test_a_passing_failure_is_tried_again(serve, connect, status):
    failures = iter([(status, {"error": {"message": "not now"}})])
    server = serve(lambda body: next(failures, None) or (200, completion(body)))
    assert [s.text for s in answer_of(connect(server.url, retries=1), request())] == ["p5", "p6"]
    assert len(server.asked) == 2


def test_a_lasting_failure_ends_the_run_after_all_retries(serve, connect):
    server = serve(lambda body: (500, {"error": {"message": "out of memory"}}))
    engine = connect(server.url, retries=1)
    engine.submit(request())
    with pytest.raises(EngineError, match=r"execution\.endpoint\.url http.*after all retries.*out of memory"):
        engine.poll()
    assert len(server.asked) == 2


def test_a_refused_request_is_not_tried_again(serve, connect):
    server = serve(lambda body: (400, {"error": {"message": "context is 16 tokens"}}))
    engine = connect(server.url, retries=3)
    engine.submit(request())
    with pytest.raises(EngineError, match="context is 16 tokens"):
        engine.poll()
    assert len(server.asked) == 1


ANSWERS = {
    # what comes instead of an answer: (function of the request's body, part of the message)
    "no JSON": (lambda body: b"<html>gateway</html>", "execution.endpoint.url"),
    "half a JSON": (lambda body: json.dumps(completion(body)).encode()[:40], "execution.endpoint.url"),
    "another JSON": (lambda body: {"result": "p5"}, "unusable answer"),
    "a list": (lambda body: [1, 2], "unusable answer"),
    "null": (lambda body: None, "unusable answer"),
    "too few choices": (lambda body: completion(body | {"n": 1}), "1 choice received, requested: 2"),
    "too many choices": (lambda body: completion(body | {"n": 3}), "3 choices received, requested: 2"),
    "no logprobs": (lambda body: completion(body, logprobs=None), "sends no logprobs; set mcts.prior to uniform"),
    "no text": (lambda body: completion(body, text=None), "no text"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_unusable_answer_is_an_engine_error(serve, connect, name):
    make, part = ANSWERS[name]
    engine = connect(serve(lambda body: (200, make(body))).url)
    engine.submit(request())
    with pytest.raises(EngineError) as caught:
        engine.poll()
    assert part in str(caught.value)


TOO_LONG = {
    "more tokens than were asked for": {"logprobs": {"tokens": ["a"] * 40, "token_logprobs": [-0.5] * 40}},
    "a text without a limit": {"text": "a" * 100_000},
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_an_answer_that_is_too_long_is_unusable(serve, connect, name):
    engine = connect(serve(lambda body: (200, completion(body, **TOO_LONG[name]))).url)
    engine.submit(request())
    with pytest.raises(EngineError, match=r"execution\.endpoint\.url .*at most 9 tokens requested"):
        engine.poll()


def test_an_unusable_answer_is_asked_for_again(serve, connect):
    garbage = iter([b"<html>gateway</html>", {"result": "p5"}])
    server = serve(lambda body: (200, next(garbage, None) or completion(body)))
    assert [s.text for s in answer_of(connect(server.url, retries=2), request())] == ["p5", "p6"]
    assert len(server.asked) == 3


def refuse_long(room):
    """A server that does not cut max_tokens down to what fits, as vLLM's does not."""

    def answer(body):
        if body["max_tokens"] > room:
            said = f"This model's maximum context length is {room + 1} tokens. However, you requested more."
            return 400, {"error": {"message": said}}
        return 200, completion(body)

    return answer


# tokens that fit behind the prompt, max_tokens of the requests made, texts
ROOMS = [(9, [9], ["p5", "p6"]), (5, [9, 4], ["p5", "p6"]), (0, [9, 4, 2, 1], ["", ""])]


@pytest.mark.parametrize(("room", "asked", "texts"), ROOMS)
def test_a_prompt_that_is_too_long_gets_what_fits(serve, connect, room, asked, texts):
    """As with the engines of this process: less, at last nothing and not finished, but no end of the run."""
    server = serve(refuse_long(room))
    samples = answer_of(connect(server.url), request())
    assert [s.text for s in samples] == texts
    assert [s.finished for s in samples] == [bool(room)] * 2
    assert [body["max_tokens"] for body in server.asked] == asked


def test_an_endpoint_that_starts_again_is_waited_for(connect):
    """It is gone, with requests outstanding, and comes back at the same address."""
    first = Server(lambda body: (200, completion(body)))
    engine = connect(first.url, wait_timeout_s=30.0)
    answer_of(engine, request())
    first.close()
    for i in range(3):
        engine.submit(request(prompt=str(i)))
    again = Server(lambda body: (200, completion(body)), port=int(first.url.split(":")[2].partition("/")[0]))
    try:
        answered = []
        while len(answered) < 3:
            answered += engine.poll()
        assert sorted(samples[0].text for _, samples in answered) == ["05", "15", "25"]
    finally:
        again.close()


def test_closing_does_not_wait_for_a_lost_endpoint(connect):
    server = Server(lambda body: (200, completion(body)))
    engine = connect(server.url, wait_timeout_s=600.0)
    server.close()
    engine.submit(request())
    engine.close()
    engine._pool.shutdown(wait=True)  # returns: the thread gave up


def test_an_endpoint_that_does_not_answer_in_time_is_an_engine_error(serve, connect):
    release = threading.Event()

    def hang(body):
        release.wait(10)
        return 200, completion(body)

    engine = connect(serve(hang).url, timeout_s=0.3)
    engine.submit(request())
    with pytest.raises(EngineError, match="timed out"):
        engine.poll()
    release.set()


def test_a_dead_port_is_told_at_once(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EngineError, match=rf"execution\.endpoint\.url http://127\.0\.0\.1:{port}/v1.*does not answer"):
        connect(f"http://127.0.0.1:{port}/v1")


def test_an_endpoint_that_dies_later_is_an_engine_error(connect):
    server = Server(lambda body: (200, completion(body)))
    engine = connect(server.url)
    server.close()
    engine.submit(request())
    with pytest.raises(EngineError, match=r"execution\.endpoint\.url"):
        engine.poll()


MODELS = [
    # (what is served, what is asked for, part of the message)
    ((MODEL, "large"), "huge", r"engine\.endpoint\.model: .*serves \['tiny', 'large'\], but not 'huge'"),
    ((), "", "serves no model"),
    (b"<html>hello</html>", "", "invalid list of models"),
    (b'{"hello": 1}', "", r"execution\.endpoint\.url"),
]


@pytest.mark.parametrize(("served", "asked", "said"), MODELS)
def test_a_model_that_is_not_served_is_told_at_once(serve, connect, served, asked, said):
    server = serve(models=served)
    with pytest.raises(EngineError, match=said):
        connect(server.url, model=asked)


def test_a_closed_engine_takes_nothing(serve, connect):
    engine = connect(serve().url)
    engine.submit(request())  # dropped
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request())
    with pytest.raises(EngineError, match="nothing is outstanding"):
        engine.poll()


def test_prompts_of_a_chat_model(serve, connect):
    """The endpoint puts the beginning of a text there itself; what it sends back steers nothing; an end token ends a turn."""
    control = Control("<|begin_of_text|>", ("<|begin_of_text|>", "<|eot_id|>"))
    reasons = iter([{"stop_reason": None}, {"stop_reason": 128008}, {"stop_reason": "\n"}, {}])
    server = serve(lambda body: (200, completion(body, text="a<|eot_id|>b", **next(reasons))))
    engine = connect(server.url, control=control)
    for prompt, sent in (("<|begin_of_text|>x<|begin_of_text|>", "x<|begin_of_text|>"), ("Problem: x", "Problem: x")):
        for ended in (True, True) if prompt[0] == "<" else (False, False):
            (sample,) = answer_of(engine, request(prompt=prompt, n=1))
            assert (sample.text, sample.finished, sample.ended) == ("a< |eot_id|>b", True, ended)
            assert server.asked[-1]["prompt"] == sent


def test_an_engine_that_is_opened_knows_the_tokens_of_its_model(serve, tmp_path):
    """From the model folder, or as a worker elsewhere is told."""
    chat_tokenizer("llama").save_pretrained(tmp_path)
    server = serve()
    params, execution = endpoint_params(server.url)
    for model, control in ((tmp_path, None), ("nowhere", read_control(tmp_path))):
        engine = open_engine(params, execution, model, control=control)
        answer_of(engine, request(prompt="<|begin_of_text|><|start_header_id|>user"))
        engine.close()
        assert server.asked[-1]["prompt"] == "<|start_header_id|>user"
