"""What a profile will cost, stage by stage, before it runs: requests, tokens, hours, disk, memory.

    python -m astro.plan                       # params.yaml as it stands
    python -m astro.plan llama-3.1-70b         # a profile, laid over the committed params.yaml
    python -m astro.plan paper                 # the worked example: the budget of ASTRO's paper
    python -m astro.plan llama-3.1-70b --device H100 --units 64 --rate 900
    python -m astro.plan llama-3.1-8b --dry-run               # and what can be checked without weights; --here: on this machine

Counts follow from the params, speeds and lengths from rates.yaml, which says of each whether it was measured. `--rate`:
tokens per second of one unit, as measured on yours. An estimate: within a factor of two where all was measured, else worth its
assumptions.
"""

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from astro.params import PARAMS_FILE, load_params, validate
from astro.preflight.model_shape import known, shape_of
from astro.process import UserError, program, run_stage
from astro.profiles import committed, find, machine_of, merged
from astro.rates import GIB, RATES, Rates, load_rates, search_of
from schemas.params import Params

PAPER = "paper"
PAPER_TREES, PAPER_SEARCH = 20_700, {"num_actions": 8, "rollouts_per_child": 16, "num_simulations": 32, "max_depth": 50}
EVAL_SIZES, EVAL_SIZE = {"math500": 500, "amc2023": 40, "aime2024": 30, "gsm8k": 1319}, 500
PAPER_TRACES, PAPER_RL, PAPER_STEPS = 36_100, 8_700, 100


@dataclass
class Line:
    """One stage of the plan. `units`: number of working cores or GPUs; hours are per unit, wall time is for all."""

    stage: str
    requests: float = 0.0
    generated: float = 0.0  # tokens
    trained: float = 0.0  # tokens
    unit_hours: float = 0.0
    disk_gb: float = 0.0
    memory_gb: float = 0.0  # memory of the devices that is needed at least


@dataclass
class Plan:
    """All lines of the plan, and the assumptions behind them."""

    title: str
    parameters: float
    device: str
    units: int
    lines: list[Line]
    notes: list[str] = field(default_factory=list)


def parameters_of(params: Params) -> float:
    """Number of parameters of the model: from its sizes for the embedded Llama, from config.json for a folder or a hub id whose
    config ships, from the name ("...-70B-...") for another hub id.

    Raises:
        UserError: the folder has no config of a causal LM, or the name contains no size.
    """
    if params.base.source == "train":
        m = params.base.model
        return m.layers * (4 * m.hidden**2 + 3 * m.hidden * m.ffn) + 2 * 180 * m.hidden
    path = params.base.pretrained.path
    if known(path) or Path(path).is_dir():
        return float(shape_of(path).parameters)
    found = re.search(r"(\d+(?:\.\d+)?)[bB]\b", path)
    if not found:
        raise UserError(
            f"base.pretrained.path {path!r} is not a folder, and its name does not contain the model's size; give "
            "--parameters"
        )
    return float(found[1]) * 1e9


def search_cost(params: Params, shape: Mapping[str, float]) -> tuple[float, float, float]:
    """(requests, tokens, bytes) of one tree. There are at most iterations * (1 + k) requests, of k steps and of M rollouts
    each."""
    m = params.mcts
    if m.method == "best_of_n":
        return 1.0, m.samples * shape["solution_tokens"], m.samples * shape["node_bytes"]
    expansions = m.num_simulations * shape["expansions"]
    children = expansions * m.num_actions * shape["actions"]
    rolled = children * shape["open"]
    steps = min(shape["step_tokens"], m.step_tokens) * expansions * m.num_actions
    drawn = rolled * m.rollouts_per_child
    if (
        m.savings.reuse_rollouts
    ):  # of the parent's M rollouts, the first steps of min(M, k) become children with one rollout each
        kept = min(m.rollouts_per_child, m.num_actions)
        steps, drawn = steps * (1 - kept / m.num_actions), drawn - min(drawn, expansions * kept)
    tokens = steps + drawn * min(shape["rollout_tokens"], m.rollout_tokens)
    return (
        expansions + rolled,
        tokens,
        children * shape["node_bytes"] + rolled * m.rollouts_per_child * shape["rollout_bytes"],
    )


def plan(params: Params, rates: Rates, *, trees: int, traces: float, rl_problems: int) -> list[Line]:
    """The stages that generate or train. The others take minutes."""
    shape, hours = rates.shape, lambda generated, trained: (generated / rates.generate + trained / rates.train) / 3600
    requests, tokens, size = search_cost(params, shape)
    g, e = params.grpo, params.eval
    chain = min(shape["chain_tokens"], e.max_tokens)
    search = Line("mcts", trees * requests, trees * tokens, disk_gb=trees * size / GIB, memory_gb=rates.weights_gb)
    lines = [search]
    base = params.base
    if base.source == "train":
        corpus = base.corpus.rows * base.corpus.row_tokens
        lines.insert(0, Line("base", trained=corpus, disk_gb=rates.weights_gb, memory_gb=rates.training_gb))
    elif base.warmup.steps:
        corpus = base.warmup.steps * base.warmup.batch_size * base.corpus.row_tokens
        memory = rates.weights_gb if base.warmup.lora.enabled else rates.training_gb
        lines.insert(0, Line("base", trained=corpus, disk_gb=2 * rates.weights_gb, memory_gb=memory))
    votes = params.linearize.self_eval.votes * trees if params.linearize.filter == "self_eval" else 0
    linearize = Line("linearize", trees * bool(votes), votes, disk_gb=traces * shape["chain_tokens"] * 5 / GIB)
    if (
        params.linearize.writer == "lm"
    ):  # segment by segment: the tokens of each chain, and of a direct chain, are generated again
        written = traces * (shape["chain_tokens"] + shape["solution_tokens"])
        linearize.requests += written / shape["step_tokens"]
        linearize.generated += written
    lines.append(linearize)
    for arm, length in (("sft", shape["chain_tokens"]), ("sft_direct", shape["solution_tokens"])):
        trained = traces * min(length, params.sft.max_length) * params.sft.epochs
        memory = rates.weights_gb if params.sft.lora.enabled else rates.training_gb
        lines.append(Line(arm, trained=trained, disk_gb=2 * rates.weights_gb, memory_gb=memory))
    measured = rl_problems * g.pass_rate.samples if (g.pass_rate.low, g.pass_rate.high) != (0.0, 1.0) else 0
    validations = 1 + math.ceil(g.steps / g.validation.every) if g.validation.problems else 0
    drawn = g.steps * g.prompts_per_step * g.group_size
    held_out = validations * g.validation.problems * g.validation.samples
    prompts = rl_problems * bool(measured) + g.steps * g.prompts_per_step
    for arm in ("grpo", "grpo_direct"):
        length = min(g.max_completion_length, shape["chain_tokens" if arm == "grpo" else "solution_tokens"])
        line = Line(arm, prompts, (drawn + held_out + measured) * length)
        line.trained, line.disk_gb = drawn * length, 2 * rates.weights_gb
        line.memory_gb = rates.weights_gb if g.lora.enabled else rates.training_gb
        lines.append(line)
    sizes = eval_sizes(params)
    asked = (5 + bool(base.warmup.steps)) * sum(sizes)  # the base, before its warm-up too, and both arms
    more = 3 * sum(sizes) * (e.of_baselines - e.samples)  # of the base and the baseline arm
    tree_searches = sum(min(e.mcts_problems, size) for size in sizes)
    generated = asked * e.samples * chain + more * min(shape["solution_tokens"], chain) + tree_searches * tokens
    lines.append(
        Line(
            "eval",
            asked + tree_searches * requests,
            generated,
            disk_gb=asked * e.samples * chain * 10 / GIB,
            memory_gb=rates.weights_gb,
        )
    )
    for line in lines:
        slower = rates.rollouts if line.stage.startswith("grpo") else 1.0
        line.unit_hours = hours(line.generated / slower, line.trained)
    return lines


def eval_sizes(params: Params) -> list[int]:
    """Number of problems of each eval set; an assumption for a file without a stated size."""
    if params.problems.source == "generated":
        return [s.size for s in params.problems.eval.values()]
    sets = {name: source for name, source in params.problems.files.items() if name.startswith("eval")}
    known = {name: EVAL_SIZES.get(source.preset, EVAL_SIZE) for name, source in sets.items()}
    return [min(size, sets[name].limit or size) for name, size in known.items()]


def short(value: float) -> str:
    """A number in four characters or so: 5.4 M, 25 G."""
    for size, sign in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.3g}" if value else "-"


def amount(value: float, digits: int = 3) -> str:
    """A number with so many digits, or a large one whole: 0.057, 29.9, 1,052."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


def table(found: Plan) -> str:
    """The plan as text."""
    names = (
        ("requests", 9),
        ("generated", 10),
        ("trained", 9),
        (f"{found.device} hours", 12),
        ("wall", 9),
        ("disk GB", 9),
    )
    head = f"{'stage':12} " + " ".join(f"{name:>{width}}" for name, width in (*names, ("memory GB", 10)))
    rows = [found.title, f"{short(found.parameters)} parameters, {found.units} x {found.device}", "", head]
    for line in [*found.lines, total(found.lines)]:
        wall = line.unit_hours / found.units
        clock = f"{wall * 60:.1f} min" if wall < 2 else f"{wall:.1f} h"
        rows.append(
            f"{line.stage:12} {short(line.requests):>9} {short(line.generated):>10} {short(line.trained):>9} "
            f"{amount(line.unit_hours, 4):>12} {clock:>9} {amount(line.disk_gb):>9} {amount(line.memory_gb):>10}"
        )
    return "\n".join([*rows, "", *(f"- {note}" for note in found.notes)])


def total(lines: list[Line]) -> Line:
    """The sum of all lines; for memory the largest value."""
    summed = Line("total", memory_gb=max(line.memory_gb for line in lines))
    for name in ("requests", "generated", "trained", "unit_hours", "disk_gb"):
        setattr(summed, name, sum(getattr(line, name) for line in lines))
    return summed


def paper_params() -> Params:
    """The 70B profile with the paper's problems, search and RL set. The paper does not state its number of RL steps, so it is
    assumed."""
    content = YAML(typ="rt").load(merged(find("llama-3.1-70b"), committed(PARAMS_FILE)))
    content["mcts"].update({"problems": PAPER_TREES, **PAPER_SEARCH})
    content["grpo"]["steps"] = PAPER_STEPS
    content["grpo"]["pass_rate"]["problems"] = PAPER_RL
    content["problems"].update({"train": PAPER_TREES, "rl": PAPER_RL})
    return validate(content, PARAMS_FILE)


def arguments() -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=program("plan"), description="Estimate what a profile costs.")
    parser.add_argument("profile", nargs="?", help='a profile, or "paper" (default: the current params.yaml)')
    parser.add_argument("--device", help="device from rates.yaml: core, H100, ...")
    parser.add_argument("--units", type=int, help="number of devices")
    parser.add_argument("--rate", type=float, help="your own measurement of generated tokens/s on one device")
    parser.add_argument(
        "--parameters", type=float, help="number of parameters, if the model's name does not contain it"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything that needs no weights (exit code 1: faults found)"
    )
    parser.add_argument("--compute", default="", help="compute profile of the dry run (default: the profile's own)")
    parser.add_argument("--here", action="store_true", help="also check the disk and GPUs of this machine")
    given = parser.parse_args()
    for name in ("units", "rate", "parameters"):
        if (value := getattr(given, name)) is not None and value <= 0:
            raise UserError(f"--{name} must be above 0, not {value}")
    return given


def wanted(given: Any) -> tuple[Params, str]:
    """The params that the command line selects, and their name."""
    if given.profile == PAPER:
        return paper_params(), "The paper's budget: k 8, M 16, 32 iterations, 20.7K problems, Llama-3.1-70B"
    if given.profile:
        content = YAML(typ="rt").load(merged(find(given.profile), committed(PARAMS_FILE)))
        return validate(content, PARAMS_FILE), f"Profile {given.profile}"
    return load_params(), f"the current {PARAMS_FILE}"


def gpus(compute: str) -> int:
    """Number of GPUs of a compute profile; 64, as in the paper, if none is named."""
    from astro.compute_profile import COMPUTE, compute_file, load_compute

    path = COMPUTE / f"{compute}.yaml" if compute else compute_file()
    return load_compute(path).world if path and path.is_file() else 64


def make(given: Any) -> Plan:
    """Make the plan that the command line requests."""
    params, title = wanted(given)
    named = machine_of(find(given.profile)) if given.profile and given.profile != PAPER else {}
    given.device, given.compute = given.device or named.get("device"), given.compute or named.get("compute", "")
    embedded = params.base.source == "train"
    device = given.device or ("core" if embedded else "H100")
    units = given.units or (2 if device == "core" else 64 if given.profile == PAPER else gpus(given.compute))
    parameters = given.parameters or parameters_of(params)
    rates = load_rates(
        RATES,
        device=device,
        parameters=parameters,
        task=search_of(params),
        generation=params.grpo.generation,
        rate=given.rate,
    )
    trees = params.mcts.problems
    if params.problems.source == "generated":
        trees = min(trees, params.problems.train)
    valid = trees * rates.shape["valid"]
    traces = PAPER_TRACES if given.profile == PAPER else valid * params.linearize.traces_per_tree
    lines = plan(params, rates, trees=trees, traces=traces, rl_problems=params.grpo.pass_rate.problems)
    m = params.mcts
    bound = m.num_simulations * (1 + m.num_actions) if m.method == "mcts" else 1
    notes = [
        *rates.notes,
        f"a tree: {lines[[x.stage for x in lines].index('mcts')].requests / trees:,.0f} requests (at most {bound}), "
        f"{valid / trees:.0%} of trees valid, {traces:,.0f} traces",
        "prompt tokens are not counted: an engine with a prefix cache computes them only once",
        "memory: an engine's weights, or for full fine-tuning weights, gradients and AdamW states; caches need more",
        "start-up is not counted: an engine needs 20 s to minutes, once per stage",
    ]
    return Plan(title, parameters, device, units, lines, notes)


def main() -> None:
    """See the module's docstring."""
    given = arguments()
    if not given.dry_run:
        print(table(make(given)))
        return
    from astro.preflight.dry_run import check_profile

    params, title = wanted(given)
    found = make(given)
    if params.base.source == "train":
        print(
            table(found),
            "dry run: the base model is trained in the run itself, so there is nothing to check",
            sep="\n\n",
        )
        return
    report = check_profile(
        params, title, device=found.device, compute=given.compute, lines=found.lines, here=given.here
    )
    print(table(found), report.text(), sep="\n\n", flush=True)
    if report.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    run_stage(main)
