"""Gradings while workers are killed at random, against the same ones left alone (`benchmarks/grading.py --killed`).

Pairs are drawn as in the stress benchmark, without a cache. A thread kills (SIGKILL) one of the workers every so often, and now
and then the process that they are forked from. No verdict may differ.
"""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Sequence

from astro.grading import Pool
from benchmarks.grading_concurrency import drawn

ZYGOTE_SHARE = 0.02
"""Of the kills: its successor imports sympy again, for seconds."""
BATCH = 200

Differing = tuple[str, str, str, str]
"""Gold, answer, verdict undisturbed, verdict with kills."""


def run_killed(gradings: int, seed: int, every_s: float, *, hostile: bool = False) -> tuple[int, int, list[Differing]]:
    """Grade all pairs twice: number of gradings, number of kills, pairs whose verdicts differ.

    Args:
        every_s: mean seconds between two kills. A hostile text takes its limit, two seconds: with kills that come much faster
            its worker never gets there.
        hostile: draw hostile answers among the others.
    """
    pairs = [pair[:2] for pair in drawn(gradings, seed, **({} if hostile else {"share": 0.0}))]
    calm = Pool(cache_size=0)
    undisturbed = _verdicts(calm, pairs)
    calm.close()
    pool, over = Pool(cache_size=0), threading.Event()
    kills: list[int] = []
    pool.call("astro.grading.limit_probes:echo", "started")
    killer = threading.Thread(target=_kill, args=(pool, over, kills, random.Random(seed), every_s))
    killer.start()
    try:
        disturbed = _verdicts(pool, pairs)
    finally:
        over.set()
        killer.join()
        pool.close()
    rows = [(*pair, was, found) for pair, was, found in zip(pairs, undisturbed, disturbed, strict=True)]
    return gradings, len(kills), [row for row in rows if row[2] != row[3]]


def _verdicts(pool: Pool, pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [g.verdict for at in range(0, len(pairs), BATCH) for g in pool.grade_batch(pairs[at : at + BATCH])]


def _kill(pool: Pool, over: threading.Event, kills: list[int], rng: random.Random, every_s: float) -> None:
    while not over.wait(rng.expovariate(1 / every_s)):
        pids = [worker.pid for worker in list(pool._workers._all)]
        zygote = pool._workers._zygote
        if zygote and rng.random() < ZYGOTE_SHARE:
            pids = [zygote._process.pid]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                kills.append(rng.choice(pids))
                os.kill(kills[-1], signal.SIGKILL)


def killed(gradings: int) -> None:
    """Print how it went with few kills and hostile answers, and with many kills and none."""
    for hostile, every_s in ((True, 2.0), (False, 0.3)):
        count, kills, differ = run_killed(gradings, 1, every_s, hostile=hostile)
        print(
            f"{count} gradings, hostile {hostile}, {kills} kills: {len(differ)} verdicts differ {differ[:3]}",
            flush=True,
        )
