"""Checks of the RL settings, before the pass rates are measured and the model is loaded."""

import importlib.util
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from astro.process import UserError, plural
from astro.special_tokens import encode_prompt
from schemas.records import Problem

SERVE = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve {model} --max-model-len {length} --logprobs-mode processed_logprobs --max-logprobs -1 "
    '--weight-transfer-config \'{{"backend": "nccl"}}\''
)
"""Command that starts the server to which TRL 1.16 sends weights."""

PROBE = "make 24 from 3 8\n\nStep 1: Let's see, $3 \\times 8 = 24$."
"""Text that a server must tokenize as the model's own tokenizer does."""


def check_generation(settings: dict, *, cuda: bool, processes: int) -> None:
    """Check that `grpo.generation` can work on this machine.

    Args:
        settings: the values of schemas.grpo.GrpoParams.
        cuda: training runs on GPUs.

    Raises:
        UserError: it cannot; says why.
    """
    how, vllm = settings["generation"], settings["vllm"]
    if how == "hf":
        return
    if importlib.util.find_spec("vllm") is None:
        raise UserError(f"grpo.generation {how}: vLLM is not installed; install the cpu or gpu extra, or use hf")
    if how == "vllm_server":
        if not cuda:
            raise UserError(
                "grpo.generation vllm_server: the weights are sent to the server over NCCL, which needs CUDA on "
                "both sides, but this machine trains on a CPU; use hf or vllm_colocate"
            )
        return
    parallel = vllm["tensor_parallel_size"]
    if processes % parallel:
        raise UserError(
            f"execution.grpo_vllm.tensor_parallel_size {parallel}: must divide {processes}, the number of training "
            "processes, because each of them also runs vLLM"
        )
    if cuda:
        return
    if vllm["sleep"]:
        raise UserError(
            "execution.grpo_vllm.sleep: it frees GPU memory, but this machine trains on a CPU; set it to false"
        )
    if processes > 1:
        raise UserError(
            f"grpo.generation vllm_colocate: on a CPU it works in one process, not in {processes}; use hf (with "
            "seeded: true), or a compute profile of one process"
        )


OUTLIERS = 0.1
"""Largest share of prompts that may be too long. Above it the settings are wrong and not the prompts."""


def overlong(prompts: Sequence[tuple[str, int]], *, max_completion_length: int, limit: int) -> dict[str, int]:
    """The few prompts that do not fit with a completion: problem id -> tokens. Empty if they are too many to be outliers.

    Args:
        prompts: (problem id, tokens).
        limit: tokens of a prompt with its completion.
    """
    longer = {identifier: tokens for identifier, tokens in prompts if tokens + max_completion_length > limit}
    return longer if len(longer) <= OUTLIERS * len(prompts) else {}


def check_held_out(
    held_out: Sequence[Problem], others: Mapping[str, Sequence[Problem]], *, identity: Callable[[Problem], str]
) -> None:
    """Check that no other set contains a validation problem.

    Args:
        others: origin of the problems (for the message) -> problems.
        identity: key that is equal for two statements of the same problem.

    Raises:
        UserError: a set does; names both.
    """
    own: dict[str, Problem] = {}
    for problem in held_out:
        if twin := own.get(identity(problem)):
            raise UserError(
                f"grpo.validation: problems {twin.id} and {problem.id} are the same; the rl set may contain each "
                "problem only once"
            )
        own[identity(problem)] = problem
    for where, problems in others.items():
        shared = [(own[key], p) for p in problems if (key := identity(p)) in own]
        if shared:
            mine, other = shared[0]
            raise UserError(
                f"grpo.validation: of the last {plural(len(held_out), 'problem')} of the rl set, "
                f"{plural(len(shared), 'occurs', 'occur')} also in {where}, "
                f"the first is {mine.id} (there {other.id}). Remove them from the rl set, or set "
                "grpo.validation.problems to 0 and grpo.keep to last"
            )


def split_rl(
    problems: Sequence[Problem], *, held_out: int, use: int, needed: int
) -> tuple[list[Problem], list[Problem]]:
    """Split the rl set into (training problems, validation problems).

    Args:
        held_out: number of problems from the end that are for validation.
        use: number of problems from the front that are for training.
        needed: prompts of one step.

    Raises:
        UserError: too few problems are left.
    """
    rest = len(problems) - held_out
    if held_out and rest < needed:
        raise UserError(
            f"grpo.validation.problems {held_out}: the rl set has {plural(len(problems), 'problem')}, which leaves "
            f"{max(0, rest)} for training, but one step needs prompts_per_step {needed}; hold out fewer, or enlarge the rl "
            "set (problems.rl)"
        )
    return list(problems[:rest][:use]), list(problems[rest:])


def check_lengths(
    prompts: Sequence[tuple[str, int]], *, max_completion_length: int, context: int, vllm_len: int
) -> int:
    """Check that each prompt fits the model with its completion. Returns the tokens of the longest prompt with a completion.

    Args:
        prompts: (problem id, tokens).
        context: the model's context (config.json: max_position_embeddings).
        vllm_len: execution.grpo_vllm.max_model_len, if vLLM generates; 0: not given.

    Raises:
        UserError: a prompt does not fit.
    """
    identifier, longest = max(prompts, key=lambda item: item[1])
    needed = longest + max_completion_length
    sums = (
        f"the longest prompt ({identifier}) has {longest} tokens; with max_completion_length {max_completion_length} "
        f"that is {needed}"
    )
    if needed > context:
        raise UserError(f"grpo.max_completion_length: {sums}, but the model's context is {context}")
    if vllm_len and needed > vllm_len:
        raise UserError(f"execution.grpo_vllm.max_model_len {vllm_len}: {sums}")
    if vllm_len > context:
        raise UserError(f"execution.grpo_vllm.max_model_len {vllm_len} is above the model's context {context}")
    return needed


def shape_of(model: Path) -> tuple[Callable[[str], list[int]], int]:
    """(function text -> token ids, context) of a model folder.

    Raises:
        UserError: the folder is not a model.
    """
    from astro.training.common import load_fault, load_settings

    try:
        config, tokenizer = load_settings(model)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{model}: transformers cannot load the model: {load_fault(error)}") from None
    return lambda text: encode_prompt(tokenizer, text), config.max_position_embeddings


# --- a vLLM server -----------------------------------------------------------------------------------------------------


def ask(url: str, *, body: dict | None = None, timeout: float = 30.0) -> dict:
    """Send a GET, or a POST if there is a body, and parse the JSON answer; {} for an empty one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        content = answer.read()
    return json.loads(content) if content.strip() else {}


def wait_for(url: str, wait_timeout_s: float) -> None:
    """Wait until a server answers /health.

    Raises:
        ConnectionError: it did not answer within the time.
    """
    deadline = time.monotonic() + wait_timeout_s
    while True:
        try:
            ask(f"{url}/health", timeout=10.0)
            return
        except (OSError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise ConnectionError(getattr(error, "reason", None) or error) from None
        time.sleep(min(2.0, max(0.1, deadline - time.monotonic())))


def check_server(server: dict, *, model: Path, needed: int, encode: Callable[[str], list[int]]) -> None:
    """Check that the vLLM server is there, serves this model, and accepts its weights.

    Args:
        server: the values of schemas.grpo.ServerParams.
        model: folder of the model to train.
        needed: tokens of the longest prompt with a completion.
        encode: text -> token ids in that model's vocabulary; the server must return the same ids.

    Raises:
        UserError: the server fails a check; says how to start it.
    """
    url = server["url"].rstrip("/")
    start = "start it with: " + SERVE.format(model=model, length=needed)
    try:
        wait_for(url, server["wait_timeout_s"])
    except ConnectionError as error:
        raise UserError(f"execution.grpo_vllm.server.url {url}: no vLLM server answers ({error}); {start}") from None
    try:
        served = ask(f"{url}/v1/models")["data"][0]
        name = str(served.get("root") or served["id"])
        if Path(name).name != model.name:
            raise UserError(
                f"execution.grpo_vllm.server.url {url}: the server has the model {name}, but {model} is "
                f"trained; {start}"
            )
        length = served.get("max_model_len") or 0
        if length < needed:
            raise UserError(
                f"execution.grpo_vllm.server.url {url}: the server's --max-model-len is {length}, but the longest "
                f"prompt with max_completion_length needs {needed}; {start}"
            )
        if ask(f"{url}/tokenize", body={"model": served["id"], "prompt": PROBE})["tokens"] != encode(PROBE):
            raise UserError(
                f"execution.grpo_vllm.server.url {url}: the server tokenizes differently from {model}, so it has "
                f"another model; {start}"
            )
        check_weight_transfer(url, start)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"execution.grpo_vllm.server.url {url}: the answer is not that of a vLLM server ({error}); {start}"
        ) from None


def check_weight_transfer(url: str, start: str) -> None:
    """Check that the server accepts new weights, and returns the probabilities that it sampled from.

    Raises:
        UserError: it does not.
    """
    try:
        config = ask(f"{url}/server_info?config_format=json")["vllm_config"]
    except urllib.error.HTTPError as error:
        raise UserError(
            f"execution.grpo_vllm.server.url {url}: the server accepts no weights, because it runs without "
            f"VLLM_SERVER_DEV_MODE=1 ({error}); {start}"
        ) from None
    if not config.get("weight_transfer_config"):
        raise UserError(
            f"execution.grpo_vllm.server.url {url}: the server accepts no weights, because --weight-transfer-config "
            f"is missing; {start}"
        )
    mode = config["model_config"]["logprobs_mode"]
    if mode != "processed_logprobs":
        raise UserError(
            f"execution.grpo_vllm.server.url {url}: with --logprobs-mode {mode} the server returns other "
            f"probabilities than it samples from; {start}"
        )
