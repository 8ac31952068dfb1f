"""The gates: conditions on whole tables, beyond what the contracts check in a single record."""

from collections.abc import Iterable, Mapping, Sequence

from astro.validation.gate import GateResult, Table, load, run_gate
from astro.validation.record_tables import Key, plain_key, problem_rows, set_rows, trace_rows, tree_rows
from schemas.records import Problem, Trace, Tree

ROUNDING = 1e-4
"""Tolerance for sums and means over a tree's figures, because records hold six decimals."""


def check_problems(
    sets: Mapping[str, Sequence[Problem]],
    *,
    levels: Mapping[int, float] | None = None,
    level_tolerance: float = 0.1,
    key: Key = plain_key,
) -> GateResult:
    """Gate `problems`: no set is empty, ids are unique, and no problem is in two of train, rl and eval.

    Args:
        sets: train, rl and at least one eval_<name>.
        levels: requested share of each level in train and rl; None: not checked.
        level_tolerance: allowed deviation of a share, in addition to three standard errors of a random draw.
        key: normal form of a problem; a task may pass a better one than the text.
    """
    e = load().expectations
    named = ["train", "rl", "eval"]
    set_expectations = [
        e.ExpectTableRowCountToBeBetween(min_value=3, notes="there is a train, an rl and an eval set"),
        e.ExpectColumnDistinctValuesToContainSet(
            column="group", value_set=named, notes="there is a train, an rl and an eval set"
        ),
        e.ExpectColumnValuesToBeBetween(column="size", min_value=1, notes="no set is empty"),
        e.ExpectColumnValuesToBeBetween(
            column="level_excess", max_value=0, notes="the mix of levels is the one asked for (excess over tolerance)"
        ),
    ]
    problem_expectations = [
        e.ExpectTableRowCountToBeBetween(min_value=1, notes="there are problems"),
        e.ExpectColumnValuesToBeUnique(column="id", notes="ids are unique over all sets"),
        e.ExpectColumnValuesToBeInSet(
            column="elsewhere", value_set=[""], notes="no problem of train or rl stands in eval, none of rl in train"
        ),
        e.ExpectCompoundColumnsToBeUnique(column_list=["set", "question"], notes="no set holds a problem twice"),
        e.ExpectColumnValuesToBeBetween(
            column="chance", min_value=0, strict_min=True, max_value=1, notes="every problem can be solved"
        ),
    ]
    tables = [
        Table("sets", set_rows(sets, levels=levels, tolerance=level_tolerance), "set", set_expectations),
        Table("problems", problem_rows(sets, key=key), "place", problem_expectations),
    ]
    return run_gate("problems", tables)


def check_trees(
    trees: Iterable[Tree],
    *,
    min_solved: float = 0.05,
    min_valid: float = 0.02,
    min_readable_gold: float = 1.0,
    searched: bool = True,
) -> GateResult:
    """Gate `trees`: enough of them are usable, and each one is consistent with the search of paper section 2.2.

    Args:
        trees: may be a stream, because each is reduced to a row at once.
        min_solved: smallest share of trees with a correct terminal node.
        min_valid: smallest share with a correct and a wrong one, which a search trace needs (paper: 0.68).
        min_readable_gold: smallest share of trees whose reference answer the grader can read.
        searched: False: trees of independent solutions (`astro.search.best_of_n`), whose N and Q do not come from simulations.
    """
    e = load().expectations

    def none(column: str, notes: str) -> object:
        return e.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=0, notes=notes)

    def exact(column: str, notes: str) -> object:
        return e.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=ROUNDING, notes=notes)

    def share(column: str, least: float, notes: str) -> object:
        return e.ExpectColumnMeanToBeBetween(column=column, min_value=least, notes=notes)

    expectations = [
        e.ExpectTableRowCountToBeBetween(min_value=1, notes="there are trees"),
        e.ExpectColumnValuesToBeUnique(column="id", notes="one tree per problem"),
        share("solved", min_solved, "enough trees hold a correct terminal node"),
        share("valid", min_valid, "enough trees hold a correct and a wrong terminal node"),
        share("readable_gold", min_readable_gold, "the grader can read the reference answers"),
        none("ungraded", "terminal nodes have a verdict, others have none"),
        none("expanded_terminals", "terminal nodes have no children"),
        none("unvalued", "nodes below the root are terminal or have rollouts"),
        exact("prior_error", "priors of siblings add up to 1"),
        exact("reward_error", "R is the mean verdict of the rollouts, or the node's own grade"),
    ]
    if searched:
        expectations += [
            none("visit_error", "visits of parent and children fit: one pass per iteration"),
            exact("q_error", "Q follows from the children and R"),
        ]
    return run_gate("trees", [Table("trees", tree_rows(trees), "id", expectations)])


def check_traces(
    traces: Iterable[tuple[Trace, Tree | None]],
    eval_problems: Iterable[Problem],
    *,
    direct_between: tuple[float, float] = (0.0, 1.0),
    max_backtracks: int | None = None,
    max_characters: int | None = None,
    max_answer_share: float = 0.5,
    to_the_end: bool = True,
    key: Key = plain_key,
) -> GateResult:
    """Gate `traces`: every chain ends with the right answer, has the stated number of returns, and is not about an eval problem.

    Args:
        traces: all traces, each with its tree; may be a stream.
        eval_problems: the problems of all eval sets.
        direct_between: smallest and largest share of direct traces; (1, 1) for the arm without reflection.
        max_backtracks: largest number of jumps back in a trace; None: unlimited.
        max_characters: longest completion; None: unlimited.
        max_answer_share: largest share of problems with the same answer (more is allowed with few problems), because a
            frequent answer would be learned.
        to_the_end: every wrong branch continues to a wrong answer; False: it may be given up earlier.
        key: see `check_problems`.
    """
    e = load().expectations

    def always(column: str, notes: str) -> object:
        return e.ExpectColumnValuesToBeInSet(column=column, value_set=[True], notes=notes)

    def between(column: str, least: int, most: int | None, notes: str) -> object:
        return e.ExpectColumnValuesToBeBetween(column=column, min_value=least, max_value=most, notes=notes)

    expectations = [
        e.ExpectTableRowCountToBeBetween(min_value=1, notes="there are traces"),
        e.ExpectColumnValuesToBeUnique(column="id", notes="ids are unique"),
        always("has_tree", "the tree of a trace is known"),
        always("ends_right", "the last step is a correct terminal node, with the trace's answer"),
        always("wrong_iff_search", "search traces try a wrong answer, direct ones none"),
        between("right_abandoned", 0, 0, "no correct answer is abandoned"),
        between("uncounted_returns", 0, 0, "a trace returns as often as its backtracks say"),
        between("backtracks", 0, max_backtracks, "not too many backtracks"),
        between("characters", 1, max_characters, "completions are neither empty nor too long"),
        e.ExpectColumnValuesToBeInSet(column="eval_problem", value_set=[""], notes="no trace is about an eval problem"),
        e.ExpectColumnMeanToBeBetween(
            column="direct",
            min_value=direct_between[0],
            max_value=direct_between[1],
            notes="the share of direct traces is within bounds",
        ),
    ]
    answers = [
        e.ExpectTableRowCountToBeBetween(min_value=1, notes="there are answers"),
        e.ExpectColumnValuesToBeBetween(
            column="excess", max_value=max_answer_share, notes="no answer is right for most of the problems"
        ),
    ]
    rows, answer_rows = trace_rows(traces, eval_problems, to_the_end=to_the_end, key=key)
    tables = [Table("traces", rows, "id", expectations), Table("answers", answer_rows, "answer", answers)]
    return run_gate("traces", tables)
