"""Gradings from many threads, and from two processes at once, with hostile answers among them (`benchmarks/grading.py --stress`).

Pairs are drawn from the case tables by a seed, without a cache, alone and in batches; a hundredth of the answers is hostile.
Checked: every pair is answered in its place and as its table says, memory stays flat, no process is left behind.
"""

import multiprocessing
import os
import random
import threading
import time
from pathlib import Path

from astro.grading import Grade, Pool
from tests.grading.tables import table

HOSTILE_SHARE = 0.01
BATCH = 64
HOSTILE = (
    r"9^{9^{9^{9}}}",
    r"\int_0^1 e^{-x^{x^{x}}} \sin(x^{100}) dx",
    r"\sum_{k=1}^{10^{12}} \frac{1}{k^{k}}",
    "{" * 5000,
    r"\frac{1}{0}",
    "(" * 1000 + "1" + ")" * 1000,
    "x" * 100_000,
    "\x00" * 10,
    "(" * 10 + "2^{100}" + ")!" * 10,
    r"\sqrt{" * 200 + "2" + "}" * 200,
    r"\prod_{k=1}^{10^9} k",
    r"\binom{10^{10}}{10^{9}}",
    r"10^{10^{10}}",
    r"1000000000!",
    r"\lim_{n \to \infty} (1+1/n)^{n^{n^n}}",
)
MIB = 1 << 20


def drawn(gradings: int, seed: int, *, share: float = HOSTILE_SHARE) -> list[tuple[str, str, bool]]:
    """(gold, answer, is it right?) of so many pairs, a share of them hostile, with the gold 5+x."""
    rng = random.Random(seed)
    cases = [
        case
        for name in ("kinds", "notations", "graders", "math_verify")
        for case in table(name)
        if "disputed" not in case
    ]
    pairs = [(case["gold"], case["answer"], case["correct"]) for case in cases]
    return [
        ("5+x", rng.choice(HOSTILE) + " " * rng.randrange(50), False) if rng.random() < share else rng.choice(pairs)
        for _ in range(gradings)
    ]


def resident(pid: int) -> float:
    """MiB of memory of a process; 0: it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def children() -> list[int]:
    """Processes that this one and its children have started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(rest[1])
    found = [os.getpid()]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found[1:]


def run(gradings: int, threads: int, seed: int) -> str:
    """Grade, and say how it went."""
    work, pool = drawn(gradings, seed), Pool(cache_size=0)
    grades: list[Grade | None] = [None] * gradings
    before = set(children())

    def share(first: int) -> None:
        mine = range(first, gradings, threads)
        for start in range(0, len(mine), BATCH):
            chosen = mine[start : start + BATCH]
            if start // BATCH % 2:
                found = [pool.grade_answer(*work[i][:2]) for i in chosen]
            else:
                found = pool.grade_batch([work[i][:2] for i in chosen])
            for i, grade in zip(chosen, found, strict=True):
                grades[i] = grade

    began = time.perf_counter()
    running = [threading.Thread(target=share, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in running):
        time.sleep(0.5)
        memory.append((resident(os.getpid()), max(map(resident, set(children()) - before), default=0.0)))
    took = time.perf_counter() - began
    started = set(children()) - before
    pool.close()
    time.sleep(1.0)
    left = sum(resident(pid) > 0 for pid in started)
    other = [w for w, g in zip(work, grades, strict=True) if g is None or (g.verdict == "correct") != w[2]]
    quarters = [memory[len(memory) * q // 4 : len(memory) * (q + 1) // 4] or memory[-1:] for q in range(4)]
    caller, worker = ("/".join(f"{max(m[side] for m in quarter):.0f}" for quarter in quarters) for side in (0, 1))
    hostile = sum(gold == "5+x" for gold, _, _ in work)
    return (
        f"{gradings} gradings, {threads} threads, {hostile} hostile: {took:.1f} s, {gradings / took:.0f} a second; "
        f"unanswered {grades.count(None)}, graded otherwise {len(other)} {[(w[0][:60], w[1][:60]) for w in other[:3]]}; "
        f"MiB by quarter: caller {caller}, largest worker {worker}; processes left {left}"
    )


def _print(gradings: int, threads: int, seed: int) -> None:
    print(run(gradings, threads, seed), flush=True)


def stress(gradings: int) -> None:
    """Eight threads of this process; then two processes at once, with four threads and half of the gradings each."""
    print(run(gradings, 8, 1), flush=True)
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_print, args=(gradings // 2, 4, seed)) for seed in (2, 3)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process of the benchmark ended with {process.exitcode}")
