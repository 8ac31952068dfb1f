"""What runs in a worker process: one task after the other, each within its limits.

A worker is forked from a process that has imported all it needs (astro/grading/fork_server.py), so a new one costs
milliseconds and may be thrown away. It is never asked to survive a fault: the kernel ends it at its limit of processor time,
whatever holds the interpreter then, and after a lack of memory it ends itself.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection

from astro.process import die_with_parent

OUT_OF_MEMORY = 77
"""Exit code."""

GROWN = 128 << 20
"""Bytes that a worker may grow (sympy's caches) before it is replaced."""

PACKAGE = "astro.grading."
"""Whose functions workers run, where their pool names no other home."""


def serve(pipe: Connection, *, time_limit: float, memory_limit: int, home: str) -> None:
    """Answer batches of tasks until the other side closes the pipe. Their functions are those of `home`.

    A batch is a JSON list of [function, arguments]; each task is answered by itself, in order, as soon as it is done:
    {"value": ...}, {"failed": why} or, where not the task failed but the machine, {"broken": why}. The last answer of a batch
    says with "leaves" whether the worker ends after it.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # its default ends the process
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGTERM})
    limit_memory(memory_limit)
    began = 0
    while True:
        try:
            tasks = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        for number, (function, arguments) in enumerate(tasks, 1):
            signal.setitimer(signal.ITIMER_PROF, time_limit)
            answer = run(function, arguments, home)
            signal.setitimer(signal.ITIMER_PROF, 0)
            began = began or resident()  # after the first: it may have loaded what all others use
            if number == len(tasks):
                answer["leaves"] = resident() - began > GROWN
            try:
                pipe.send_bytes(json.dumps(answer).encode())
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
            except OSError:
                return
        if answer.get("leaves"):
            return


def run(function: str, arguments: list[str], home: str = PACKAGE) -> dict:
    """Call "<home>module:function"."""
    try:
        return {"value": find(function, home)(*arguments)}
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except RecursionError:
        return {"failed": "nested too deep"}
    except (OSError, ImportError) as error:  # a task is a function of its texts: it opens no file
        return {"broken": f"{type(error).__name__}: {error}"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}"}


@cache
def find(function: str, home: str) -> Callable:
    """The function of that name.

    Raises:
        ValueError: it is not of `home`. Workers run no other code.
    """
    module, _, name = function.partition(":")
    if not function.startswith(home) or name.startswith("_"):
        raise ValueError(f"{function}: grading workers run only functions of {home}*")
    return getattr(importlib.import_module(module), name)  # imports what a literal names


def resident() -> int:
    """Bytes of memory in use."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def limit_memory(extra: int) -> None:
    """Allow that many bytes of address space beyond what is mapped now."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + extra, mapped + extra))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
