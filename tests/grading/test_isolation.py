"""Workers: limits, order, threads, processes, faults from outside."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from astro.execution.scheduler import SearchError
from astro.grading import GraderFault, Pool
from astro.grading.batch import _Run
from astro.grading.processes import Zygote
from astro.process import run_stage
from benchmarks.grading_killed import run_killed

TASKS = "astro.grading.worker_tasks:grade_pair"
HANG = "astro.grading.limit_probes:spin"
EAT = "astro.grading.limit_probes:eat"
ECHO = "astro.grading.limit_probes:echo"
FORMULA = (r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2")
"""A pair that needs a worker."""


@pytest.fixture(scope="module")
def pool():
    with_limits = Pool(workers=2, time_limit=0.5, memory_limit=256 << 20, cache_size=0)
    yield with_limits
    with_limits.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def workers_of(pool: Pool) -> list[int]:
    return [worker.pid for worker in list(pool._workers._all)]


def test_a_hanging_task_costs_its_own_limit_only(pool):
    assert pool.grade_answer(*FORMULA).verdict == "correct"  # started
    texts = ["1", "spin", "2", "3", "spin", "4"]
    began = time.monotonic()
    assert pool.call_batch(HANG, [(t,) for t in texts], failed="lost") == ["1", "lost", "2", "3", "lost", "4"]
    assert 0.5 <= time.monotonic() - began < 10


def test_a_task_that_eats_memory_is_ended_and_the_next_one_is_not(pool):
    assert pool.call_batch(EAT, [("9",), ("2000",), ("9",)], failed="lost") == [9, "lost", 9]


def test_a_task_that_raises_fails_alone(pool):
    assert pool.call_batch("astro.grading.limit_probes:fail", [("x",)], failed="lost") == ["lost"]
    assert pool.call(ECHO, "y") == "y"


@pytest.mark.parametrize("function", ["os:system", "astro.grading", "astro.process:home_root", "astro.gradingx:f"])
def test_workers_run_nothing_else(pool, function):
    with pytest.raises(ValueError, match=r"expected astro\.grading"):
        pool.call(function, "x")


def test_order_over_many_chunks(pool):
    texts = [str(i) for i in range(500)]
    assert pool.call_batch(ECHO, [(t,) for t in texts]) == texts


def test_threads_share_the_workers(pool):
    results: dict[int, list] = {}

    def work(number: int) -> None:
        results[number] = [
            *pool.call_batch(ECHO, [(f"{number}-{i}",) for i in range(60)]),
            pool.grade_answer(*FORMULA).verdict,
        ]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [*(f"{n}-{i}" for i in range(60)), "correct"] for n in range(8)}
    assert len(workers_of(pool)) <= 2


def test_no_signal_handler_is_set_in_the_caller(pool):
    names = ("SIGALRM", "SIGPROF", "SIGVTALRM", "SIGCHLD", "SIGTERM", "SIGINT")
    before = [signal.getsignal(getattr(signal, name)) for name in names]
    pool.call(HANG, "spin")
    assert [signal.getsignal(getattr(signal, name)) for name in names] == before
    assert signal.getitimer(signal.ITIMER_PROF) == signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_worker_killed_from_outside_costs_nothing(pool):
    pool.call_batch(ECHO, [("x",)] * 40)
    killed: list[int] = []

    def kill() -> None:
        for _ in range(2):
            time.sleep(0.1)
            killed.extend(workers_of(pool)[:1])
            os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    texts = [str(i) for i in range(300)]
    assert pool.call_batch("astro.grading.limit_probes:slow", [(t,) for t in texts], failed="lost") == texts
    killer.join()
    assert len(killed) == 2


def test_a_stopped_worker_is_replaced(pool):
    pool.call(ECHO, "x")
    for pid in workers_of(pool):
        os.kill(pid, signal.SIGSTOP)
    assert pool.call_batch(ECHO, [("y",), ("z",)], failed="lost") == ["y", "z"]


def test_the_process_that_starts_workers_is_replaced(pool):
    pool.call(ECHO, "x")
    workers = workers_of(pool)
    os.kill(pool._workers._zygote._process.pid, signal.SIGKILL)
    assert wait_for(lambda: not any(map(alive, workers)))  # they die with it
    assert pool.call(ECHO, "y") == "y"


@pytest.fixture
def impatient(monkeypatch):
    """Gives up soon."""
    monkeypatch.setattr("astro.grading.processes.PATIENCE_S", 0.1)
    monkeypatch.setattr("astro.grading.batch.HOPELESS_S", 0.2)


def refused(self, *_):
    raise BlockingIOError(11, "Resource temporarily unavailable")


def test_a_grader_that_cannot_start_raises_and_keeps_nothing(monkeypatch, impatient, caplog):
    monkeypatch.setattr(Zygote, "__init__", refused)
    pool = Pool(workers=2)
    assert pool.grade_answer("5", "5.0").verdict == "correct"  # needs no process
    ways = (
        lambda: pool.grade_answer(*FORMULA),
        lambda: pool.grade_batch([("7", "7"), FORMULA]),
        lambda: pool.grade(FORMULA[0], rf"\boxed{{{FORMULA[1]}}}"),
        lambda: pool.gold_parses(FORMULA[0]),
        lambda: pool.call(ECHO, "x", failed="lost"),
    )
    for way in ways:
        with pytest.raises(GraderFault, match=r"cannot start a worker process: .*Resource temporarily"):
            way()
    assert len(caplog.messages) == len(ways)
    monkeypatch.undo()
    assert pool.grade_answer(*FORMULA).verdict == "correct"  # the failure is not kept
    pool.close()


def test_workers_that_always_die_from_outside_are_a_fault_and_no_verdict(monkeypatch, impatient, caplog):
    """Each one is killed as soon as it has its task."""
    send = _Run._send

    def killing(self, busy):
        send(self, busy)
        if busy.outstanding:
            os.kill(busy.worker.pid, signal.SIGKILL)

    pool = Pool(workers=2)
    monkeypatch.setattr(_Run, "_send", killing)
    with pytest.raises(GraderFault, match=r"killed by another process: \d+ in"):
        pool.grade_batch([FORMULA, ("x+1", "1+x")])
    assert "killed by another process" in caplog.text
    monkeypatch.undo()
    assert [g.verdict for g in pool.grade_batch([FORMULA, ("x+1", "1+x")])] == ["correct"] * 2
    pool.close()


def test_deaths_in_a_row_are_no_verdict():
    """Three were one."""
    pool, text = Pool(workers=1), "x"
    pool.call(ECHO, text)
    deaths = []

    def kill() -> None:
        while len(deaths) < 5:
            for pid in set(workers_of(pool)) - set(deaths):
                time.sleep(0.05)  # in the middle of the task
                deaths.append(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert pool.call("astro.grading.limit_probes:long", text, failed="lost") == text
    killer.join()
    pool.close()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("astro.grading.limit_probes:crash", "x"),  # a stack that overflows in C
        (HANG, "spin"),
        (EAT, "2000"),
    ],
)
def test_a_text_that_kills_its_worker_is_a_verdict_and_the_others_are_not_touched(pool, function, text):
    texts = [(str(i),) for i in range(40)]
    assert pool.call(function, text, failed="lost") == "lost"
    assert pool.call_batch(ECHO, texts) == [t for (t,) in texts]


def test_a_worker_that_lacks_a_file_of_the_machine_is_no_verdict(impatient):
    pool = Pool(workers=1)
    with pytest.raises(GraderFault):
        pool.call("astro.grading.limit_probes:lack", "x", failed="lost")
    pool.close()


def test_verdicts_do_not_depend_on_workers_that_are_killed():
    """At random, also the process that starts them. 10,000 gradings: `benchmarks/grading.py --killed`."""
    gradings, kills, differ = run_killed(gradings=1000, seed=1, every_s=0.3)
    assert kills >= 5
    assert not differ, f"{len(differ)} of {gradings}: {differ[:3]}"


@pytest.mark.parametrize(
    "error",
    [
        GraderFault("the grader cannot start a worker process: why"),
        SearchError("p1", GraderFault("the grader cannot start a worker process: why")),
        pickle.loads(pickle.dumps(SearchError("p1", GraderFault("the grader cannot start a worker process: why")))),
    ],
    ids=["as it is", "in a search", "from another process"],
)
def test_a_fault_ends_a_stage_with_one_line(error, capsys):
    def stage() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_stage(stage)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: the grader cannot start a worker process: why\n"


def test_a_forked_copy_has_workers_of_its_own(pool):
    pool.grade_answer(*FORMULA)
    ours = workers_of(pool)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            verdict = pool.grade_answer(*FORMULA).verdict
            shared = bool(set(workers_of(pool)) & set(ours))
            pool.close()
            os.write(writing, f"{verdict} {shared}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"correct False"
    os.close(reading)
    os.close(writing)
    assert pool.grade_answer(*FORMULA).verdict == "correct"
    assert all(map(alive, workers_of(pool)))


def in_a_daemon(connection) -> None:
    from astro.grading import default_pool, grade_answer

    connection.send(grade_answer(*FORMULA).verdict)
    default_pool().close()


def test_in_a_spawned_daemonic_process():
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(120)
    assert ours.recv() == "correct"
    process.join(30)
    assert process.exitcode == 0


def test_workers_end_with_their_caller_however_it_ends():
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from astro.grading import Pool\n"
        "import threading\n"
        "pool = Pool(workers=1, time_limit=60)\n"
        "pool.grade_answer(r'\\frac{\\sqrt{3}}{2}', r'\\sqrt{3}/2')\n"
        "print(pool._workers._zygote._process.pid, *[w.pid for w in pool._workers._all], flush=True)\n"
        "pool.call('astro.grading.limit_probes:spin', 'spin')\n"  # a busy worker does not look at its pipe
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_for(lambda: not any(map(alive, pids)))


def test_close_leaves_no_process_and_a_pool_starts_again():
    pool = pickle.loads(pickle.dumps(Pool(workers=1)))
    assert pool.grade_answer(*FORMULA).verdict == "correct"
    pids = [pool._workers._zygote._process.pid, *workers_of(pool)]
    pool.close()
    assert wait_for(lambda: not any(map(alive, pids)))
    assert pool.grade_answer(*FORMULA).verdict == "correct"
    pool.close()


def test_repeated_pairs_are_graded_once():
    pool = Pool(workers=1)
    assert [g.verdict for g in pool.grade_batch([FORMULA] * 50)] == ["correct"] * 50
    assert len(pool._cache) == 1
    assert pool.grade_answer(*FORMULA).verdict == "correct"
    pool.close()


def test_the_cache_is_bounded():
    pool = Pool(cache_size=10)
    pool.grade_batch([(str(i), "5") for i in range(100)])
    assert len(pool._cache) == 10


@pytest.mark.parametrize("settings", [{"workers": 0}, {"time_limit": 0}, {"memory_limit": -1}, {"cache_size": -1}])
def test_settings_out_of_bounds(settings):
    with pytest.raises(ValueError, match="expected workers >= 1"):
        Pool(**settings)


BAD = [
    "",
    "x" * 1_000_000,
    "5" * 1_000_000,
    bytes(range(256)).decode("latin-1"),
    "\ud800",
    "{" * 500 + "}" * 499,
    "(" * 900 + "5" + ")" * 900,
    r"\sqrt{" * 300 + "2" + "}" * 300,
    r"\frac{1}{" * 30 + "x" + "}" * 30,
    "9**9**9**9",
    "9^{9^{9^{9}}}",
    r"\frac{1}{0}",
    "1000000000!",
    r"\int_0^1 e^{-x^{x^{x}}} \sin(x^{100}) dx",
    r"\sum_{k=1}^{10^{12}} \frac{1}{k^k}",
    r"\boxed{5} " * 3000,
    "\u202e5\u202c",
    "5\x00",
    "1," * 5000,
    "-" * 2000 + "5",
    r"\begin{pmatrix}" + "1 & " * 400 + r"1 \end{pmatrix}",
    "x^" * 200 + "x",
    "((((((1+x)^9)^9)^9)^9)^9)^9",
]


@pytest.mark.parametrize("text", BAD, ids=[repr(t[:20]) for t in BAD])
def test_bad_input_gets_a_grade_in_time(pool, text):
    for gold, answer in ((r"5+\sqrt{x}", text), ("6", text), (text, r"5+\sqrt{x}")):
        began = time.monotonic()
        assert pool.grade_answer(gold, answer).verdict != "correct"
        assert pool.grade(gold, f"so \\boxed{{{answer}}}").verdict != "correct"
        assert time.monotonic() - began < 15  # two gradings, two looks at the gold, on a busy machine
    assert pool.grade_answer(*FORMULA).verdict == "correct"  # no worker is stuck
