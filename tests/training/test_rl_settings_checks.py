"""What is refused before RL begins: lengths, machines, servers. And the params that TRL would read in another sense."""

import contextlib
import http.server
import json
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from astro.params import load_params
from astro.process import UserError
from astro.tasks.countdown.task import Countdown
from astro.training.rl_settings_checks import (
    PROBE,
    check_generation,
    check_held_out,
    check_lengths,
    check_server,
    overlong,
    split_rl,
)
from schemas.execution import GrpoVllmExecution
from schemas.grpo import GrpoParams
from schemas.records import Problem

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
GRPO, VLLM = PARAMS.grpo.model_dump(), PARAMS.execution.grpo_vllm.model_dump()


def changed(**changes):
    """params.grpo with changes."""
    return edited(GRPO, changes)


def with_vllm(**changes):
    """What the training takes: params.grpo, and how vLLM generates for it."""
    return edited(GRPO | {"vllm": VLLM}, changes)


def edited(settings, changes):
    values = json.loads(json.dumps(settings))
    for key, value in changes.items():
        at, names = values, key.split("__")
        for name in names[:-1]:
            at = at[name]
        at[names[-1]] = value
    return values


REFUSED = [
    ({"loss_type": "cispo"}, r"epsilon_high 0\.0: with loss_type cispo .* at least 1"),
    ({"loss_type": "sapo", "epsilon_high": 0.3}, r"epsilon_high 0\.3: loss_type sapo does not clip"),
    ({"loss_type": "cispo", "epsilon_high": 5.0, "delta": 9.0}, r"delta 9\.0: loss_type cispo does not use it"),
    ({"delta": 1.1}, r"delta 1\.1 must be above 1 \+ epsilon_high"),
    ({"loss_type": "luspo"}, "loss_type luspo needs importance_level sequence"),
    ({"loss_type": "vespo", "importance_level": "sequence"}, "loss_type vespo needs importance_level token"),
    (
        {"loss_type": "vespo", "generation": "vllm_colocate", "correction": "sequence_mask"},
        "loss_type vespo needs correction token_truncate",
    ),
    ({"num_iterations": 3}, "save_every 10 must be a multiple of num_iterations 3"),
    ({"loss_type": "ppo"}, "loss_type"),
    ({"restart__fraction": 1.0}, "restart.fraction"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_params_that_do_not_go_together(changes, said):
    with pytest.raises(ValidationError, match=said):
        GrpoParams.model_validate(changed(**changes))


def test_an_address_without_a_scheme_is_refused():
    with pytest.raises(ValidationError, match=r"server\.url"):
        GrpoVllmExecution.model_validate(edited(VLLM, {"server__url": "localhost:8000"}))


TAKEN = [
    {"loss_type": "cispo", "epsilon_high": 5.0},
    {"loss_type": "grpo", "importance_level": "sequence", "epsilon": 0.0003, "epsilon_high": 0.0004},
    {"loss_type": "luspo", "importance_level": "sequence"},
    {"loss_type": "vespo", "generation": "vllm_server", "correction": "token_mask"},
    {"delta": 4.0, "epsilon_high": 0.28, "num_iterations": 2, "validation__every": 4},
    # the paper's, as far as they are known (r)
    {
        "group_size": 4,
        "lr": 2e-7,
        "max_completion_length": 15360,
        "micro_batch": 4,
        "reward_wrong": -1.0,
        "restart__fraction": 0.5,
    },
]


@pytest.mark.parametrize("changes", TAKEN)
def test_params_that_do(changes):
    GrpoParams.model_validate(changed(**changes))


# --- machine ----------------------------------------------------------------------------------------------------------

MACHINES = [
    ({"generation": "vllm_server"}, {"cuda": False}, "vllm_server: .* needs CUDA"),
    ({"generation": "vllm_colocate"}, {"cuda": False, "processes": 2}, "on a CPU it works in one process, not in 2"),
    ({"generation": "vllm_colocate", "vllm__sleep": True}, {"cuda": False}, "execution.grpo_vllm.sleep"),
    (
        {"generation": "vllm_colocate", "vllm__tensor_parallel_size": 3},
        {"cuda": True, "processes": 8},
        "tensor_parallel_size 3: must divide 8,",
    ),
]


@pytest.mark.parametrize(("changes", "machine", "said"), MACHINES)
def test_a_machine_that_cannot(changes, machine, said):
    with pytest.raises(UserError, match=said):
        check_generation(with_vllm(**changes), **({"cuda": True, "processes": 1} | machine))


def test_machines_that_can():
    for changes, machine in [
        ({"generation": "hf"}, {"cuda": False, "processes": 2}),
        ({"generation": "vllm_colocate"}, {"cuda": False, "processes": 1}),
        (
            {"generation": "vllm_colocate", "vllm__tensor_parallel_size": 4},
            {"cuda": True, "processes": 8},
        ),
        ({"generation": "vllm_server"}, {"cuda": True, "processes": 8}),
    ]:
        check_generation(with_vllm(**changes), **machine)


def test_a_few_prompts_that_are_too_long_are_left_out_and_many_are_a_fault_of_the_settings():
    prompts = [(f"p{i}", 100) for i in range(9)] + [("huge", 200_000)]
    assert overlong(prompts, max_completion_length=800, limit=1000) == {"huge": 200_000}
    assert overlong(prompts, max_completion_length=950, limit=1000) == {}
    assert overlong(prompts[-3:], max_completion_length=800, limit=1000) == {}


def test_lengths():
    prompts = [("a", 10), ("long", 200), ("b", 30)]
    assert check_lengths(prompts, max_completion_length=800, context=1000, vllm_len=0) == 1000
    with pytest.raises(
        UserError, match=r"grpo.max_completion_length: the longest prompt \(long\) has 200 .* 1001, .* context is 1000"
    ):
        check_lengths(prompts, max_completion_length=801, context=1000, vllm_len=0)
    with pytest.raises(UserError, match=r"execution.grpo_vllm.max_model_len 900: .* that is 1000"):
        check_lengths(prompts, max_completion_length=800, context=1000, vllm_len=900)
    with pytest.raises(UserError, match=r"max_model_len 2000 is above the model's context 1000"):
        check_lengths(prompts, max_completion_length=800, context=1000, vllm_len=2000)


# --- a server ---------------------------------------------------------------------------------------------------------


def encode(text):
    return [ord(c) for c in text]


ANSWERS = {
    "/health": {},
    "/v1/models": {"data": [{"id": "models/sft", "root": "models/sft", "max_model_len": 100}]},
    "/tokenize": {"tokens": encode(PROBE)},
    "/server_info?config_format=json": {
        "vllm_config": {
            "weight_transfer_config": {"backend": "nccl"},
            "model_config": {"logprobs_mode": "processed_logprobs"},
        }
    },
}


@contextlib.contextmanager
def serving(answers):
    """A server that gives fixed answers by path; its url."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.command == "POST":
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert asked["prompt"] == PROBE
            found = answers.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def ask(answers, *, needed=100):
    with serving(answers) as url:
        settings = {"url": url, "group_port": 51216, "wait_timeout_s": 0.0}
        check_server(settings, model=Path("models/sft"), needed=needed, encode=encode)


def test_a_server_that_fits():
    ask(ANSWERS)


def config(**changes):
    whole = ANSWERS["/server_info?config_format=json"]["vllm_config"] | changes
    return {"/server_info?config_format=json": {"vllm_config": whole}}


SERVERS = [
    (
        {"/v1/models": {"data": [{"id": "x", "root": "/m/Qwen2.5-7B", "max_model_len": 100}]}},
        "the server has the model /m/Qwen2.5-7B, but",
    ),
    ({"/v1/models": {"data": [{"id": "models/sft", "max_model_len": 99}]}}, "--max-model-len is 99, .* needs 100"),
    ({"/tokenize": {"tokens": [1, 2]}}, "tokenizes differently"),
    ({"/server_info?config_format=json": None}, "runs without VLLM_SERVER_DEV_MODE=1"),
    (config(weight_transfer_config=None), "--weight-transfer-config is missing"),
    (
        config(model_config={"logprobs_mode": "raw_logprobs"}),
        "--logprobs-mode raw_logprobs the server returns other|with --logprobs-mode raw",
    ),
    ({"/v1/models": {}}, "the answer is not that of a vLLM server"),
]


@pytest.mark.parametrize(("changes", "said"), SERVERS)
def test_a_server_that_does_not_is_told_with_how_to_start_it(changes, said):
    with pytest.raises(UserError, match=said) as error:
        ask({path: answer for path, answer in (ANSWERS | changes).items() if answer is not None})
    assert "vllm serve models/sft --max-model-len 100" in str(error.value)
    assert """--weight-transfer-config '{"backend": "nccl"}'""" in str(error.value)


def test_no_server_at_all():
    settings = {"url": "http://127.0.0.1:9", "group_port": 51216, "wait_timeout_s": 0.0}
    with pytest.raises(
        UserError,
        match=r"execution\.grpo_vllm\.server\.url .*no vLLM server answers .*VLLM_SERVER_DEV_MODE=1 vllm serve",
    ):
        check_server(settings, model=Path("models/sft"), needed=100, encode=encode)


# --- validation -------------------------------------------------------------------------------------------------------


def made(name, count, first=0):
    return [
        Problem(id=f"{name}{i}", task="countdown", question=f"make {30 + i} from 3 8 1", gold="1", level=3, chance=None)
        for i in range(first, first + count)
    ]


def reordered(problem, identifier):
    return problem.model_copy(update={"id": identifier, "question": problem.question.replace("3 8 1", "8 1 3")})


def test_the_last_problems_are_held_out_and_never_trained_on():
    problems = made("rl", 10)
    assert split_rl(problems, held_out=3, use=100, needed=4) == (problems[:7], problems[7:])
    assert split_rl(problems, held_out=3, use=5, needed=4) == (problems[:5], problems[7:])
    assert split_rl(problems, held_out=0, use=100, needed=4) == (problems, [])


@pytest.mark.parametrize("held_out", [7, 10, 11, 1000])
def test_too_few_are_left_to_train_on(held_out):
    with pytest.raises(UserError, match=rf"grpo.validation.problems {held_out}: the rl set has 10 .*problems\.rl"):
        split_rl(made("rl", 10), held_out=held_out, use=100, needed=4)


OVERLAPS = [
    (
        {"data/problems/eval/n3.jsonl": lambda p: [reordered(p, "eval_n3-00007")]},
        r"n3.jsonl.*rl2 \(there eval_n3-00007\)",
    ),
    ({"data/problems/eval/n3.jsonl": lambda p: [p]}, r"of the last 4 .*, 1 occurs also in data/problems/eval/n3.jsonl"),
    ({"data/problems/train.jsonl": lambda p: [reordered(p, "train-1")]}, r"also in data/problems/train.jsonl"),
    (
        {"data/problems/rl.jsonl before them": lambda p: [reordered(p, "rl99")]},
        r"rl.jsonl before them, .* rl2 \(there rl99",
    ),
]


@pytest.mark.parametrize(("others", "reason"), OVERLAPS)
def test_a_problem_of_validation_that_stands_elsewhere_is_refused(others, reason):
    """The order of the numbers makes no other problem."""
    held_out = made("rl", 4)
    given = {where: [*made("other", 5, first=10), *of(held_out[2])] for where, of in others.items()}
    with pytest.raises(UserError, match=reason):
        check_held_out(held_out, given, identity=Countdown().identity)


def test_a_problem_that_comes_twice_among_them_is_refused():
    held_out = made("rl", 3)
    with pytest.raises(UserError, match=r"rl1 and rl9 are the same"):
        check_held_out([*held_out, reordered(held_out[1], "rl9")], {}, identity=Countdown().identity)


def test_other_problems_are_no_overlap():
    check_held_out(made("rl", 4), {"eval": made("eval", 9, first=4)}, identity=Countdown().identity)


REFUSED = [
    ({"keep": "best", "validation__problems": 0}, "keep best needs validation"),
    ({"keep": "last", "validation__patience": 2}, "patience 2 needs keep best"),
    ({"num_iterations": 3, "save_every": 9, "validation__every": 5}, "every 5 must be a multiple of num_iterations 3"),
    ({"curriculum": "easy_first", "restart__fraction": 0.5}, "needs restart.fraction 0"),
    ({"validation__every": 0}, "greater than or equal to 1"),
    ({"refills": -1}, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_params_of_validation_that_cannot_work(changes, reason):
    with pytest.raises(ValidationError, match=reason):
        GrpoParams.model_validate(changed(**changes))
