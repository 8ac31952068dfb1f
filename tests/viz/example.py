"""A small pipeline run, made of real records: chains in the text format of the embedded world, trees, metrics."""

import random

from astro.viz.chain_selection import Example
from astro.viz.report import ReportData, StageProvenance
from schemas.evaluate import (
    AfterBacktracks,
    AttemptMetrics,
    BudgetCurve,
    BudgetPoint,
    Decisions,
    EqualTokens,
    Estimate,
    EvalMetrics,
    ModelMetrics,
    PairedDifference,
)
from schemas.records import Chain, ChainNode, Completion, Node, Problem, Rollout, Segment, Trace, Tree

SIGNS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
DOUBT = "But wait, are we solving the problem correctly so far? Hmm..."


def make_problem(name: str, target: int, numbers: list[int]) -> Problem:
    question = f"make {target} from {' '.join(map(str, numbers))}"
    return Problem(id=name, task="countdown", question=question, gold=str(target), level=len(numbers), chance=0.05)


def _step(rng: random.Random, left: list[int]) -> tuple[str, list[int], bool]:
    """One random step: its text, the numbers left after it, and whether it is legal (a negative result is not)."""
    a, b = rng.sample(left, 2)
    sign = rng.choice(list(SIGNS))
    result = SIGNS[sign](a, b)
    rest = list(left)
    rest.remove(a)
    rest.remove(b)
    return f"{a} {sign} {b} = {result}", [*rest, result], result > 0


def _attempt(rng: random.Random, left: list[int]) -> list[tuple[str, list[int], bool]]:
    """Random steps until one number is left."""
    steps = []
    while len(left) > 1:
        steps.append(_step(rng, left))
        left = steps[-1][1]
    return steps


def make_completion(problem: Problem, model: str, *, seed: int, attempts: int, solve: bool) -> Completion:
    """A chain of `attempts` random attempts, wrong ones first; with `solve` the last one is right."""
    rng = random.Random(seed)
    target = int(problem.gold)
    nodes: list[ChainNode] = []
    lefts: dict[int, list[int]] = {-1: [int(x) for x in problem.question.split(" from ")[1].split()]}
    back_edges, ends, rows = [], [], []
    parent = -1
    for attempt in range(attempts):
        wanted = solve and attempt == attempts - 1
        if attempt:
            parent = -1 if wanted else rng.choice([-1, nodes[ends[-1]].parent, nodes[nodes[ends[-1]].parent].parent])
            back_edges.append((ends[-1], parent))
            path, at = [], parent
            while at != -1:
                path.append(nodes[at].text)
                at = nodes[at].parent
            rows += [DOUBT, "Let's go back to", problem.question, *reversed(path)]
        steps = _attempt(rng, lefts[parent])
        while wanted != (steps[-1][1] == [target] and all(legal for _, _, legal in steps)):
            steps = _attempt(rng, lefts[parent])
        for text, left, legal in steps:
            last = len(left) == 1
            claim = None if not last else (wanted or rng.random() < 0.1)
            check = f" make {target} got {left[0]} {'yes' if claim else 'no'}"
            rows.append(text + (check if last else f" left {' '.join(map(str, left))}"))
            right = wanted if last else None
            nodes.append(ChainNode(text=rows[-1], parent=parent, valid=legal, ends=last, right=right, claim=claim))
            parent = len(nodes) - 1
            lefts[parent] = left
        ends.append(parent)
    return Completion(
        model=model,
        set=f"numbers_{problem.level}",
        problem_id=problem.id,
        sample=seed % 8,
        text="\n".join(rows) + (f" answer {target}\n" if solve else "\n"),
        tokens=sum(len(row.split()) for row in rows),
        finished=solve,
        answer=problem.gold if solve else None,
        verdict="correct" if solve else "unparseable_prediction",
        chain=Chain(nodes=nodes, back_edges=back_edges, attempts=ends, repeats=0, unparsed=0),
    )


def make_tree(problem: Problem, *, seed: int, width: int = 4) -> Tree:
    """A tree of random steps, graded; figures of inner nodes are drawn, not searched."""
    rng = random.Random(seed)
    start = [int(x) for x in problem.question.split(" from ")[1].split()]
    fields = {"prior": 1.0, "visits": 24, "q": 0.4, "reward": 0.0, "terminal": False, "answer": None, "verdict": None}
    nodes = [Node(index=0, parent=-1, depth=0, text="", rollouts=[], **fields)]
    lefts = [start]
    for parent in range(1000):
        if parent == len(nodes):
            break
        if len(lefts[parent]) == 1 or rng.random() < 0.25 * (parent > 0):
            continue
        for _ in range(width):
            text, left, legal = _step(rng, lefts[parent])
            terminal = len(left) == 1
            right = left == [int(problem.gold)] and legal
            verdict = (
                None if not terminal else ("correct" if right else ("wrong" if legal else "unparseable_prediction"))
            )
            rollouts = [
                Rollout(answer=str(rng.randint(1, 60)), verdict=rng.choice(["correct", "wrong", "wrong"]), tokens=12)
                for _ in range(0 if terminal else 4)
            ]
            share = sum(r.verdict == "correct" for r in rollouts) / 4
            nodes.append(
                Node(
                    index=len(nodes),
                    parent=parent,
                    depth=nodes[parent].depth + 1,
                    text=text + ("" if terminal else f" left {' '.join(map(str, left))}"),
                    prior=1 / width,
                    visits=max(1, nodes[parent].visits // width - rng.randint(0, 2)),
                    q=float(right) if terminal else round(rng.random(), 2),
                    reward=float(right) if terminal else share,
                    terminal=terminal,
                    answer=str(left[0]) if terminal and verdict != "unparseable_prediction" else None,
                    verdict=verdict,
                    rollouts=rollouts,
                )
            )
            lefts.append(left)
    return Tree(problem=problem, nodes=nodes, iterations=16, requests=64, tokens=3120)


def make_trace(tree: Tree, *, backtracks: int, number: int = 0) -> Trace:
    """A chain through a solved tree that visits `backtracks` wrong ends and starts again from the problem each time."""
    right = next(n.index for n in tree.nodes if n.verdict == "correct")
    wrong = [n.index for n in tree.nodes if n.verdict == "wrong"][:backtracks]
    assert len(wrong) == backtracks
    on_the_way = set(tree.path(right))
    segments = []
    for end in [*wrong, right]:
        if segments:
            segments.append(Segment(text=f"{DOUBT}\n", kind="reflection", node=None))
            segments.append(Segment(text=f"Let's go back to\n{tree.problem.question}\n", kind="return", node=0))
        for index in tree.path(end):
            kind = "step" if index in on_the_way else "wrong_step"
            segments.append(Segment(text=f"{tree.nodes[index].text}\n", kind=kind, node=index))
    return Trace(
        id=f"{tree.problem.id}/{number}",
        problem_id=tree.problem.id,
        kind="search" if backtracks else "direct",
        prompt=f"{tree.problem.question}\n",
        completion="".join(s.text for s in segments),
        backtracks=backtracks,
        segments=segments,
        answer=tree.problem.gold,
    )


def estimate(value: float, *, reach: float = 0.028, n: int = 300) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach, n=n)


def make_model_metrics(accuracy: float, *, backtracks: float) -> ModelMetrics:
    """Figures around one accuracy; a model with 0 backtracks has one attempt and makes no decision to go back."""
    searches = backtracks > 0
    attempts = range(1, 9 if searches else 2)
    return ModelMetrics(
        pass_at_1=estimate(accuracy),
        maj_at_k=estimate(min(0.97, accuracy + 0.11), reach=0.034),
        first_attempt=estimate(accuracy - (0.16 if searches else 0)),
        tokens=28 + 62 * backtracks,
        backtracks=backtracks,
        backtracking_share=0.71 if searches else 0.0,
        repeat_share=0.08 if searches else None,
        valid_steps=0.96,
        truncated=0.04 if searches else 0.0,
        unparseable=0.05,
        by_backtracks=[
            AfterBacktracks(backtracks=i, chains=max(0, 1200 >> i) - (1200 >> 8), accuracy=accuracy * (0.92**i))
            for i in range(9 if searches else 1)
        ],
        by_attempt=[
            AttemptMetrics(
                attempt=i,
                chains=2400 >> i,
                right=(accuracy - 0.1) * 0.9**i,
                valid=0.98 * 0.97**i,
                novel=None if i == 1 else 0.97 * 0.95**i,
            )
            for i in attempts
        ],
        decisions=Decisions(
            stop_when_right=0.97 if searches else None,
            back_when_wrong=0.93 if searches else None,
            stop_precision=0.95,
            claim_accuracy=0.982 if searches else None,
            right_attempts=int(2400 * accuracy),
            wrong_attempts=int(2400 * (1 - accuracy) * (1 + backtracks)),
        ),
        backtracks_score_r=-0.41 if searches else None,
        backtracks_at_equal_tokens=estimate(0.234, reach=0.05) if searches else None,
        tokens_at_equal_backtracks=estimate(-0.512, reach=0.04) if searches else None,
    )


SCORES = {
    "numbers_3": {"base": 0.291, "sft_direct": 0.412, "sft": 0.624, "grpo_direct": 0.533, "grpo": 0.713},
    "numbers_4": {"base": 0.134, "sft_direct": 0.171, "sft": 0.268, "grpo_direct": 0.266, "grpo": 0.279},
}
TURNS = {"base": 0.0, "sft_direct": 0.0, "sft": 1.62, "grpo_direct": 0.0, "grpo": 2.31}
PAIRS = [
    ("sft", "base"),
    ("grpo", "sft"),
    ("grpo", "base"),
    ("sft_direct", "base"),
    ("grpo_direct", "sft_direct"),
    ("sft", "sft_direct"),
    ("grpo", "grpo_direct"),
]
"""Not in the order in which they are shown."""


def make_budgets(models: dict[str, float], *, search: bool = True) -> list[BudgetCurve]:
    """Curves around the accuracies, in the order in which the eval stage writes them."""

    def curve(label: str, method: str, budgets: list[int], each: float, first: float) -> BudgetCurve:
        gain = 0.1 if method == "majority" else 0.6
        points = [
            BudgetPoint(
                budget=b, tokens=each * b, accuracy=estimate(first + (1 - first) * gain * i / len(budgets), n=60)
            )
            for i, b in enumerate(budgets)
        ]
        return BudgetCurve(label=label, method=method, points=points)

    curves = [
        curve(model, "one_sample", [30, 42, 60, 85, 120, 170], each, 0.05)
        for model, each in (("sft", 0.9), ("grpo", 0.7))
    ]  # fmt: skip
    for model in ("sft_direct", "grpo_direct", "base"):
        curves += [curve(model, method, [1, 2, 4, 8], 28, models[model]) for method in ("best_of_n", "majority")]
    return [*curves, curve("base", "search", [200, 400, 800], 1.0, models["base"])] if search else curves


def make_equal_tokens(models: dict[str, float]) -> list[EqualTokens]:
    return [
        EqualTokens(better=mine, worse=other, tokens=153.0, accuracy=models[mine], other=found)
        for mine, direct in (("sft", "sft_direct"), ("grpo", "grpo_direct"))
        for other, found in (
            (f"{direct}_best_of_n", models[direct] + 0.301),
            (f"{direct}_majority", models[direct] + 0.052),
            ("base_search", None),
        )
    ]


def make_metrics() -> EvalMetrics:
    return EvalMetrics(
        samples=8,
        seed=7,
        sets={
            name: {model: make_model_metrics(value, backtracks=TURNS[model]) for model, value in models.items()}
            for name, models in SCORES.items()
        },
        differences={
            name: [
                PairedDifference(better=a, worse=b, difference=estimate(models[a] - models[b], reach=0.031))
                for a, b in PAIRS
            ]
            for name, models in SCORES.items()
        },
        budgets={name: make_budgets(models) for name, models in SCORES.items()},
        equal_tokens={name: make_equal_tokens(models) for name, models in SCORES.items()},
    )


def make_curves() -> dict[str, list[dict[str, float]]]:
    rng = random.Random(3)

    def loss(steps: int, first: float, last: float) -> list[dict[str, float]]:
        return [
            {"step": i, "loss": last + (first - last) * 0.985**i + rng.gauss(0, 0.02), "lr": 0.001}
            for i in range(1, steps)
        ]

    def rl(backtracks: float) -> list[dict[str, float]]:
        return [
            {
                "step": float(i),
                "reward": 0.2 + 0.4 * (1 - 0.97**i) + rng.gauss(0, 0.06),
                "reward_std": 0.5,
                "length": 60 + 40 * backtracks + 0.6 * i + rng.gauss(0, 8),
                "entropy": 0.4 * 0.99**i,
                "zero_variance": min(1.0, max(0.0, 0.3 + 0.002 * i + rng.gauss(0, 0.06))),
                "truncated": max(0.0, rng.gauss(0.03, 0.02)),
                "backtracks": backtracks,
                "first_attempt": 0.2,
                "accuracy": 0.6,
            }
            for i in range(1, 121)
        ]

    return {
        "base": loss(900, 4.1, 0.9),
        "sft": loss(260, 1.4, 0.31),
        "sft_direct": loss(260, 1.3, 0.28),
        "grpo": rl(1.7),
        "grpo_direct": rl(0.0),
    }


def make_gallery() -> list[Example]:
    """Chains of ASTRO-RL with Direct-RL beside them; the last one has no contrast."""
    easy = make_problem("eval-3-17", 24, [4, 6, 8])
    hard = make_problem("eval-4-02", 24, [3, 5, 7, 9])
    return [
        Example(
            hard,
            make_completion(hard, "grpo", seed=11, attempts=5, solve=True),
            make_completion(hard, "grpo_direct", seed=3, attempts=1, solve=False),
            right=(3, 8),
            contrast_right=(1, 8),
        ),
        Example(
            hard,
            make_completion(hard, "grpo", seed=4, attempts=9, solve=False),
            make_completion(hard, "grpo_direct", seed=4, attempts=1, solve=False),
        ),
        Example(
            easy,
            make_completion(easy, "grpo", seed=2, attempts=1, solve=True),
            make_completion(easy, "grpo_direct", seed=5, attempts=1, solve=False),
        ),
        Example(easy, make_completion(easy, "sft", seed=2, attempts=3, solve=True)),
    ]


def make_rl_metrics(*, pass_rate: float | None, first: float | None, last: float | None, steps: int = 120) -> dict:
    return {
        "prompts_measured": 0 if pass_rate is None else 600,
        "prompts_kept": 600,
        "pass_rate": pass_rate,
        "steps": steps,
        "completions": 128 * steps,
        "reward_first": first,
        "reward_last": last,
    }


def make_report_data() -> ReportData:
    easy = make_problem("eval-3-17", 24, [4, 6, 8])
    hard = make_problem("eval-4-02", 24, [3, 5, 7, 9])
    solved, unsolved = make_tree(hard, seed=3), make_tree(easy, seed=7)
    return ReportData(
        title="ASTRO on Countdown: embedded profile",
        metrics=make_metrics(),
        chances={"numbers_3": 0.09, "numbers_4": 0.051},
        stage_metrics={
            "problems": {
                "sets": {"train": {"size": 2000, "chance": 0.062}, "rl": {"size": 600, "chance": None}},
                "dropped": 12,
            },
            "base": {"parameters": 1812480, "vocabulary": 187, "tokens": 12345678, "loss": 0.9123},
            "mcts": {"trees": 2000, "solved": 0.742, "valid": 0.701, "tokens_per_valid_tree": 4312.5},
            "sft": {"examples": 5200, "too_long": 3, "tokens": 812345, "steps": 259, "loss": 0.3127},
            "grpo": make_rl_metrics(pass_rate=0.412, first=0.211, last=0.587),
            "grpo_direct": make_rl_metrics(pass_rate=None, first=0.205, last=0.402),
        },
        params={
            "run": {"seed": 7, "task": "countdown"},
            "mcts": {"num_actions": 4, "rollouts_per_child": 4, "num_simulations": 16, "c_puct": 1.0},
            "linearize": {"reflection": True, "phrases": True, "max_backtracks": 3},
            "eval": {"samples": 8, "majority": 8, "temperature": 1.0},
        },
        curves=make_curves(),
        gallery=make_gallery(),
        trees=[solved, unsolved],
        traces={hard.id: make_trace(solved, backtracks=2, number=3)},
        provenance={
            "problems": StageProvenance(md5="0f343b0931126a20f133d67c2b018a3b.dir", seconds=2.31, run_id="a3c1f0"),
            "base": StageProvenance(md5="7bd1c2a4e5f60718293a4b5c6d7e8f90.dir", seconds=611.0, run_id="b77e21"),
            "report": StageProvenance(),
        },
    )
