"""Convert records to tables: one row per problem, set, tree or trace, with the quantities that a gate checks as columns.

Records are processed in plain Python and pandas is used only at the end, so that 10,000 trees of 100 nodes take only seconds.
"""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.records import NO_PARENT, ROOT, Node, Problem, Trace, Tree

if TYPE_CHECKING:
    import pandas as pd

Key = Callable[[Problem], str]
"""Normal form of a problem. Problems with equal keys are the same problem."""

GROUPS = ("eval", "train", "rl")
"""Groups of sets in order of priority. If two sets share a problem, the later one must drop it."""


def plain_key(problem: Problem) -> str:
    """The question in lower case with single spaces."""
    return " ".join(problem.question.lower().split())


def group_of(name: str) -> str:
    """`eval_three` -> `eval`; any other set is its own group."""
    return "eval" if name == "eval" or name.startswith("eval_") else name


class _Columns:
    """A table that grows row by row. Numbers use as many bytes as in the frame."""

    TYPES: ClassVar = {"int64": "q", "float64": "d", "bool": "b"}

    def __init__(self, columns: Mapping[str, str]) -> None:
        """Create an empty table. columns: name -> dtype."""
        self._dtypes = dict(columns)
        self._columns = {name: array(self.TYPES[t]) if t in self.TYPES else [] for name, t in columns.items()}

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row with these columns."""
        for name, column in self._columns.items():
            column.append(row[name])

    def frame(self) -> "pd.DataFrame":
        """The frame, which may have no rows."""
        import pandas as pd

        return pd.DataFrame(self._columns).astype(self._dtypes)


def _frame(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> "pd.DataFrame":
    """A frame with these columns and dtypes; rows may be a stream."""
    table = _Columns(columns)
    for row in rows:
        table.add(row)
    return table.frame()


# ------------------------------------------------------------------------------------------------------- problems


def problem_rows(sets: Mapping[str, Sequence[Problem]], *, key: Key = plain_key) -> "pd.DataFrame":
    """One row per problem: place ("<set>:<id>"), id, set, question (its key), level, chance (NaN: unknown), elsewhere.

    `elsewhere` is the place of the same problem in another group of sets with higher priority (eval before train before
    rl); "" if there is none. Two eval sets may share a problem.
    """
    keys = {name: [key(problem) for problem in problems] for name, problems in sets.items()}
    places: dict[str, dict[str, str]] = defaultdict(dict)  # key -> group -> first place
    for name, problems in sets.items():
        for question, problem in zip(keys[name], problems, strict=True):
            places[question].setdefault(group_of(name), f"{name}:{problem.id}")
    rows = []
    for name, problems in sets.items():
        group = group_of(name)
        older = GROUPS[: GROUPS.index(group)] if group in GROUPS else GROUPS
        for question, problem in zip(keys[name], problems, strict=True):
            found = [places[question][g] for g in older if g in places[question]]
            rows.append(
                {
                    "place": f"{name}:{problem.id}",
                    "id": problem.id,
                    "set": name,
                    "question": question,
                    "level": problem.level,
                    "chance": math.nan if problem.chance is None else problem.chance,
                    "elsewhere": ", ".join(found),
                }
            )
    texts = dict.fromkeys(("place", "id", "set", "question"), "object")
    return _frame(rows, {**texts, "level": "int64", "chance": "float64", "elsewhere": "object"})


def set_rows(
    sets: Mapping[str, Sequence[Problem]], *, levels: Mapping[int, float] | None, tolerance: float
) -> "pd.DataFrame":
    """One row per set: set, group, size, level_excess.

    `level_excess` (train and rl, if `levels` is given; else NaN) is how far the worst level's share deviates from
    `levels` beyond `tolerance` plus three standard errors of a draw of that size; <= 0 is fine.
    """
    rows = []
    for name, problems in sets.items():
        excess = math.nan
        if levels is not None and problems and group_of(name) != "eval":
            excess = _level_excess(problems, levels, tolerance)
        rows.append({"set": name, "group": group_of(name), "size": len(problems), "level_excess": excess})
    return _frame(rows, {"set": "object", "group": "object", "size": "int64", "level_excess": "float64"})


def _level_excess(problems: Sequence[Problem], levels: Mapping[int, float], tolerance: float) -> float:
    counts, n = Counter(problem.level for problem in problems), len(problems)
    worst = -math.inf
    for level in set(counts) | set(levels):
        share = levels.get(level, 0.0)
        allowed = tolerance + 3 * math.sqrt(share * (1 - share) / n)
        worst = max(worst, abs(counts[level] / n - share) - allowed)
    return worst


# ----------------------------------------------------------------------------------------------------------- trees

TREE_COLUMNS = {
    "id": "object",  # id of the problem
    "nodes": "int64",
    "solved": "bool",  # whether it has a correct terminal node
    "valid": "bool",  # whether it has a correct and a wrong terminal node
    "readable_gold": "bool",  # no grade says that the reference is unreadable
    "ungraded": "int64",  # terminal nodes without a verdict, or others with one
    "expanded_terminals": "int64",  # terminal nodes with children
    "unvalued": "int64",  # non-terminal nodes below the root without rollouts
    "prior_error": "float64",  # largest |sum of the priors of siblings - 1|
    "visit_error": "int64",  # largest difference between the passes through a node and the sum over its children
    "q_error": "float64",  # largest |Q - the back-propagation formula over the children|
    "reward_error": "float64",  # largest |R - mean verdict of the rollouts, or own grade|
}


def tree_rows(trees: Iterable[Tree]) -> "pd.DataFrame":
    """One row per tree, see `TREE_COLUMNS`."""
    return _frame(map(_tree_row, trees), TREE_COLUMNS)


def _tree_row(tree: Tree) -> dict[str, Any]:
    children: dict[int, list[Node]] = defaultdict(list)
    for node in tree.nodes:
        if node.parent != NO_PARENT:
            children[node.parent].append(node)
    verdicts = {node.verdict for node in tree.nodes if node.terminal}
    graded = verdicts | {rollout.verdict for node in tree.nodes for rollout in node.rollouts}
    return {
        "id": tree.problem.id,
        "nodes": len(tree.nodes),
        "solved": "correct" in verdicts,
        "valid": {"correct", "wrong"} <= verdicts,
        "readable_gold": "unparseable_gold" not in graded,
        "ungraded": sum(node.terminal != (node.verdict is not None) for node in tree.nodes),
        "expanded_terminals": sum(tree.nodes[parent].terminal for parent in children),
        "unvalued": sum(not n.terminal and not n.rollouts for n in tree.nodes[ROOT + 1 :]),
        "prior_error": max((abs(sum(c.prior for c in found) - 1) for found in children.values()), default=0.0),
        "visit_error": max(_visit_error(node, children.get(node.index), tree.iterations) for node in tree.nodes),
        "q_error": max((_q_error(tree.nodes[i], found) for i, found in children.items()), default=0.0),
        "reward_error": max(_reward_error(node) for node in tree.nodes),
    }


def _visit_error(node: Node, children: Sequence[Node] | None, iterations: int) -> int:
    """The root has one pass per iteration, any other node N - 1 (new nodes start with N = 1, the root with 0).

    The first pass of an expanded node stopped there to expand it; each later one continued to a child.
    """
    passes = node.visits - (node.index != ROOT)
    if node.index == ROOT and passes != iterations:
        return abs(passes - iterations)
    if not children:
        return max(-passes, 0)
    return abs(sum(child.visits - 1 for child in children) - (passes - 1))


def _q_error(node: Node, children: Sequence[Node]) -> float:
    """`Q = (sum_i Q_i N_i + R) / (sum_i N_i + 1)` (paper section 2.2); the root has no R of its own."""
    weighted, visits = (0.0, 0) if node.index == ROOT else (node.reward, 1)
    weighted += sum(child.q * child.visits for child in children)
    visits += sum(child.visits for child in children)
    return abs(node.q - (weighted / visits if visits else 0.0))


def _reward_error(node: Node) -> float:
    if node.rollouts:
        return abs(node.reward - sum(r.verdict == "correct" for r in node.rollouts) / len(node.rollouts))
    return abs(node.reward - (node.verdict == "correct")) if node.terminal else 0.0


# ---------------------------------------------------------------------------------------------------------- traces

TRACE_COLUMNS = {
    "id": "object",
    "direct": "bool",
    "has_tree": "bool",  # whether the tree of its problem is known
    "ends_right": "bool",  # whether its last step is a correct terminal node of that tree, with the trace's answer
    "wrong_iff_search": "bool",  # whether a search trace tries a wrong answer (or leaves the path), and a direct one does not
    "right_abandoned": "int64",  # correct terminal nodes that the trace treats as wrong
    "uncounted_returns": "int64",  # |number of returns in the text - backtracks|
    "backtracks": "int64",
    "characters": "int64",  # length of the completion
    "eval_problem": "object",  # eval problem that the trace is about; "": none
}


def trace_rows(
    traces: Iterable[tuple[Trace, Tree | None]],
    eval_problems: Iterable[Problem],
    *,
    to_the_end: bool = True,
    key: Key = plain_key,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """One row per trace, see `TRACE_COLUMNS`, and one per answer, see `ANSWER_COLUMNS`.

    Args:
        traces: each with its tree (None: unknown); may be a stream.
        eval_problems: compared by id and by question.
        to_the_end: wrong branches continue to a wrong answer; False: they may be given up earlier.
    """
    evals = {name: problem.id for problem in eval_problems for name in (problem.id, "question " + key(problem))}
    answers, table = _Answers(), _Columns(TRACE_COLUMNS)
    for trace, tree in traces:
        leak = evals.get(trace.problem_id, "")
        if tree is not None and not leak:
            leak = evals.get("question " + key(tree.problem), "")
        table.add({**_trace_row(trace, tree, to_the_end), "eval_problem": leak})
        answers.add(trace)
    return table.frame(), answers.frame()


def _trace_row(trace: Trace, tree: Tree | None, to_the_end: bool) -> dict[str, Any]:
    """All columns but `eval_problem`. Without a tree only `has_tree` fails."""
    written = [(s.kind, s.node) for s in trace.segments if s.kind in ("step", "wrong_step")]
    nodes: dict[int | None, Node] = {} if tree is None else {node.index: node for node in tree.nodes}
    ends = [(kind, nodes[i]) for kind, i in written if i in nodes and nodes[i].terminal]
    wrong = sum(
        kind == "wrong_step" and (n := nodes.get(i)) is not None and _astray(n, to_the_end) for kind, i in written
    )
    last = nodes.get(written[-1][1]) if written else None
    right = last is not None and written[-1][0] == "step" and last.verdict == "correct" and last.answer == trace.answer
    return {
        "id": trace.id,
        "direct": trace.kind == "direct",
        "has_tree": tree is not None,
        "ends_right": right or tree is None,
        "wrong_iff_search": (wrong > 0) == (trace.kind == "search") or tree is None,
        "right_abandoned": sum(kind == "wrong_step" and node.verdict == "correct" for kind, node in ends),
        "uncounted_returns": abs(sum(s.kind == "return" for s in trace.segments) - trace.backtracks),
        "backtracks": trace.backtracks,
        "characters": len(trace.completion),
    }


def _astray(node: Node, to_the_end: bool) -> bool:
    """Whether a step off the path counts as a wrong try."""
    return node.terminal and node.verdict != "correct" if to_the_end else node.verdict != "correct"


ANSWER_COLUMNS = {
    "answer": "object",
    "excess": "float64",  # share of problems with this answer, minus the random fluctuation 1 / sqrt(problems)
}


class _Answers:
    """Counts the problems in which each answer occurs. Of a pair of problem and answer only the hash is stored."""

    def __init__(self) -> None:
        self._problems: set[int] = set()
        self._pairs: set[int] = set()
        self._counts: Counter[str] = Counter()

    def add(self, trace: Trace) -> None:
        """Count one trace."""
        self._problems.add(hash(trace.problem_id))
        pair = hash((trace.problem_id, trace.answer))
        if pair not in self._pairs:
            self._pairs.add(pair)
            self._counts[trace.answer] += 1

    def frame(self) -> "pd.DataFrame":
        """One row per answer."""
        problems = len(self._problems)
        return _frame(
            ({"answer": a, "excess": c / problems - 1 / math.sqrt(problems)} for a, c in sorted(self._counts.items())),
            ANSWER_COLUMNS,
        )
