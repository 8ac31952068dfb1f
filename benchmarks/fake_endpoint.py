"""An OpenAI-compatible completions endpoint without a model, in a process of its own: something to kill.

python -m benchmarks.fake_endpoint PORT [seconds per request]
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from astro.inference.engine import Request
from benchmarks.world import Policy

MODEL = "random-moves"


class Handler(BaseHTTPRequestHandler):
    """GET: the list of models. POST: a completion by `benchmarks.world.Policy`."""

    takes_s = 0.0

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """The list of models."""
        self._reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """A completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stop = tuple(body.get("stop") or ())
        asked = Request(body["prompt"], body["n"], body["max_tokens"], body["temperature"], stop, body["seed"], False)
        samples = Policy()(asked)
        time.sleep(self.takes_s)
        choices = [
            {"index": i, "text": s.text, "finish_reason": "stop", "logprobs": None} for i, s in enumerate(samples)
        ]
        tokens = sum(s.tokens for s in samples)
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
        self._reply(
            {"id": "x", "object": "text_completion", "created": 0, "model": MODEL, "choices": choices, "usage": usage}
        )

    def _reply(self, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until killed."""
    Handler.takes_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
