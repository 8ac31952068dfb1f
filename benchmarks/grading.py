"""Grading against plain math-verify in process: rates side by side in one run, and agreement on the case tables.

    python -m benchmarks.grading [gradings] [--rates | --agreement | --stress | --killed]

Rates are over distinct pairs made from a seed, so that no cache helps either side: easy ones (numbers, words, choices), formulas,
mixed ones (half easy, half formulas), and mixed ones of which 1 % are hostile. Plain math-verify runs one pair after the other in
this process, both sides wrapped in dollars, with its own time-outs; ours is a pool with one and with two workers, started before.
"""

import argparse
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from math_verify import parse, verify

from astro.grading import Pool, grade_batch
from astro.process import run_stage
from benchmarks.grading_concurrency import stress
from benchmarks.grading_killed import killed
from tests.grading.tables import table

DEFAULT_GRADINGS = 1000
SEED = 7
HOSTILE_EVERY = 100
HOSTILE = (
    r"9^{9^{9^{9}}}",
    r"\int_0^1 e^{-x^{x^{x}}} \sin(x^{100}) dx",
    r"\sum_{k=1}^{10^{12}} \frac{1}{k^{k}}",
    r"1000000000!",
    r"\lim_{n \to \infty} (1+1/n)^{n^{n^n}}",
)

Pairs = list[tuple[str, str]]


# --- pairs -------------------------------------------------------------------------------------------------------------


def easy(rng: random.Random) -> tuple[str, str]:
    """A pair that needs no algebra; about half of them are right."""
    n, d = rng.randrange(1, 10**6), rng.randrange(2, 1000)
    off = rng.randrange(2)
    return rng.choice(
        [
            (str(n), f"{n + off:,}"),
            (f"{n}.0", str(n + off)),
            (rf"\frac{{{n}}}{{{d}}}", f"{n + off}/{d}"),
            (str(n), rf"${n + off}$ \text{{ cm}}"),
            (f"({n}, {d})", f"({n},{d + off})"),
            (rf"\text{{(C)}} {n}", "C" if off else "D"),
        ]
    )


def formula(rng: random.Random) -> tuple[str, str]:
    """A pair of formulas; about half of them are equal."""
    a, b, c = (rng.randrange(2, 200) for _ in range(3))
    off = rng.randrange(2)
    return rng.choice(
        [
            (rf"\frac{{{a}\sqrt{{{b}}}}}{{{c}}}", rf"\frac{{{a * b}}}{{{c}\sqrt{{{b + off}}}}}"),
            (f"{a}x^2+{b}x+{c}", f"{c}+{b}x+{a + off}x^2"),
            (f"(x+{a})(x-{b})", f"x^2+{a - b + 1000}x-1000x-{a * b + off}"),
            (rf"y = {a}x + {b}", f"{a}x - y + {b + off} = 0"),
            (rf"({a}, {b}\pi]", rf"{a} < x \le {b + off}\pi"),
            (rf"\frac{{{a}+{b}i}}{{2}}", rf"{a}/2 + \frac{{{b + off}}}{{2}}i"),
        ]
    )


def mixed(rng: random.Random) -> tuple[str, str]:
    """Half easy, half formulas."""
    return (easy if rng.random() < 0.5 else formula)(rng)


def distinct(make: Callable[[random.Random], tuple[str, str]], count: int) -> Pairs:
    """So many pairs, none twice."""
    rng = random.Random(SEED)
    found: dict[tuple[str, str], None] = {}
    while len(found) < count:
        found[make(rng)] = None
    return list(found)


def with_hostile(pairs: Pairs) -> Pairs:
    """The pairs with a hostile answer in every hundredth."""
    return [
        (gold, HOSTILE[i // HOSTILE_EVERY % len(HOSTILE)])
        if i % HOSTILE_EVERY == HOSTILE_EVERY // 2
        else (gold, answer)
        for i, (gold, answer) in enumerate(pairs)
    ]


# --- rates -------------------------------------------------------------------------------------------------------------


def plain(pairs: Sequence[tuple[str, str]], *, dollars: bool = True) -> list[bool]:
    """math-verify as its documentation shows it."""
    mark = "$" if dollars else ""
    return [verify(parse(f"{mark}{gold}{mark}"), parse(f"{mark}{answer}{mark}")) for gold, answer in pairs]


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a call, in seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def rates(gradings: int) -> None:
    """Print gradings per second."""
    print(f"{'pairs':<18}{'number':>8}{'math-verify':>13}{'1 worker':>10}{'ratio':>7}{'2 workers':>11}{'ratio':>7}")
    sets = {
        "easy": distinct(easy, gradings),
        "formulas": distinct(formula, gradings),
        "mixed": distinct(mixed, gradings),
        "mixed, 1 % hostile": with_hostile(distinct(mixed, gradings)),
    }
    pools = {n: Pool(workers=n, cache_size=0) for n in (1, 2)}
    for pool in pools.values():
        pool.grade_batch([("x+1", "1+x"), ("x+2", "2+x"), ("x+3", "3+x")])  # started
    plain([("x+1", "1+x")])
    for name, pairs in sets.items():
        base = len(pairs) / seconds(partial(plain, pairs))
        ours = {n: len(pairs) / seconds(partial(pool.grade_batch, pairs)) for n, pool in pools.items()}
        row = "".join(f"{ours[n]:>{10 if n == 1 else 11}.0f}{ours[n] / base:>7.1f}" for n in pools)
        print(f"{name:<18}{len(pairs):>8}{base:>13.0f}{row}", flush=True)
    for pool in pools.values():
        pool.close()


# --- agreement ---------------------------------------------------------------------------------------------------------


def agreement() -> None:
    """Print, table by table and kind by kind, the share that each grader gets right and its false positives."""
    print(f"\n{'table / kind':<24}{'cases':>7}" + "".join(f"{n:>24}" for n in ("math-verify", "in dollars", "ours")))
    for name in ("kinds", "notations", "graders", "math_verify"):
        cases = [case for case in table(name) if "disputed" not in case]
        pairs = [(case["gold"], case["answer"]) for case in cases]
        verdicts = [plain(pairs, dollars=False), plain(pairs), [g.verdict == "correct" for g in grade_batch(pairs)]]
        _print_row(name, cases, verdicts)
        for kind in Counter(case["kind"] for case in cases if "kind" in case):
            chosen = [i for i, case in enumerate(cases) if case["kind"] == kind]
            _print_row(f"  {kind}", [cases[i] for i in chosen], [[v[i] for i in chosen] for v in verdicts])


def _print_row(name: str, cases: Sequence[dict], verdicts: Sequence[Sequence[bool]]) -> None:
    cells = []
    for found in verdicts:
        right = sum(verdict == case["correct"] for verdict, case in zip(found, cases, strict=True))
        false = sum(verdict and not case["correct"] for verdict, case in zip(found, cases, strict=True))
        cells.append(f"{100 * right / len(cases):>14.1f} % ({false:>2} f.p.)")
    print(f"{name:<24}{len(cases):>7}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gradings", type=int, nargs="?", default=DEFAULT_GRADINGS)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--rates", action="store_true")
    only.add_argument("--agreement", action="store_true")
    only.add_argument(
        "--stress",
        action="store_true",
        help="number of gradings by many threads and two processes, with hostile answers (for example 10000)",
    )
    only.add_argument(
        "--killed",
        action="store_true",
        help="number of gradings while worker processes are killed at random (for example 10000)",
    )
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if given.stress:
        stress(given.gradings)
        return
    if given.killed:
        killed(given.gradings)
        return
    if not given.agreement:
        rates(given.gradings)
    if not given.rates:
        agreement()


if __name__ == "__main__":
    run_stage(main)
