"""Do prompts, chains and completions fit the model's context, the engine and the training rows?"""

from dataclasses import dataclass

from schemas.params import Params


@dataclass(frozen=True)
class Lengths:
    """Tokens."""

    prompt: int
    """of the longest prompt"""
    chain: int
    """of a chain of thought"""
    source: str = ""


def context_faults(params: Params, context: int, name: str) -> list[str]:
    """Limits of the params that lie above the model's context: a text so long cannot be read by it.

    Args:
        context: tokens, of config.json (max_position_embeddings).
        name: of the model, for the messages.
    """
    limits = {"engine.max_model_len": params.engine.max_model_len, "sft.max_length": params.sft.max_length}
    if params.grpo.generation != "hf":
        limits["execution.grpo_vllm.max_model_len"] = params.execution.grpo_vllm.max_model_len
    return [
        f"{where} {value}: above the context of {name}, {context} tokens"
        for where, value in limits.items()
        if value > context
    ]


def completion_faults(params: Params, context: int, lengths: Lengths, name: str) -> list[str]:
    """Prompt and completion against what is to hold both."""
    engine, prompt = params.engine.max_model_len, lengths.prompt
    g, rollouts = params.grpo, params.execution.grpo_vllm.max_model_len
    found = []
    sums = [("eval.max_tokens", params.eval.max_tokens), ("mcts.rollout_tokens", params.mcts.rollout_tokens)]
    if (g.pass_rate.low, g.pass_rate.high) != (0.0, 1.0):
        sums.append(("grpo.max_completion (of the pass rate)", g.max_completion))
    for where, value in sums:
        if prompt + value > engine:
            found.append(
                f"{where} {value}: with a prompt of {prompt} tokens that is {prompt + value}, but engine.max_model_len is "
                f"{engine}: completions would be cut"
            )
    if prompt + g.max_completion > context:
        found.append(
            f"grpo.max_completion {g.max_completion}: with a prompt of {prompt} tokens that is {prompt + g.max_completion}, but "
            f"the context of {name} is {context}"
        )
    if g.generation != "hf" and rollouts and prompt + g.max_completion > rollouts:
        found.append(
            f"grpo.max_completion {g.max_completion}: with a prompt of {prompt} tokens that is {prompt + g.max_completion}, but "
            f"execution.grpo_vllm.max_model_len is {rollouts}"
        )
    return found


def trace_faults(params: Params, context: int, lengths: Lengths, name: str) -> list[str]:
    """Traces against the rows of SFT and the context: longer ones would be dropped, all of them in the end."""
    needed = lengths.prompt + lengths.chain
    limit, where = min((params.sft.max_length, "sft.max_length"), (context, f"the context of {name}"))
    if needed <= limit:
        return []
    return [
        f"{where} {limit}: shorter than the traces: a prompt of {lengths.prompt} and a chain of {lengths.chain} tokens "
        f"({lengths.source}) make {needed}"
    ]
