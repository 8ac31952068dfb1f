"""The process that workers are forked from. It imports sympy once and then only forks, kills and reaps, so it never hangs.

It is a program of its own (`python -c`), not a multiprocessing child: the caller's __main__ is not run again, daemonic processes
may start it, and the caller's threads and locks are not in it. It has one thread, so forking it is safe and its workers' signal
at its death is reliable (the kernel sends it at the death of the thread that forked).
"""

import contextlib
import gc
import importlib
import logging
import os
import select
import signal
import socket
import struct
import sys
from multiprocessing.connection import Connection

from astro.grading.worker import OUT_OF_MEMORY, PACKAGE, serve

FORK, END = b"F", b"E"
REQUEST = struct.Struct("!cq d q")
"""What to do; a process id; seconds; bytes."""
REPLY = struct.Struct("!q")
"""Process id, exit status, or minus an error number."""

LOOK_S = 2.0
"""How often the parent's life is checked where the end of the socket does not show its death (a copy of it was forked)."""

WARM_UP = (
    r"\frac{\sqrt{3}x^{2}}{2}+\pi",
    r"2 \cos \left(x\right)",
    r"(-\infty, 3] \cup \{5\}",
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
)

_workers: set[int] = set()


def main(descriptor: int, parent: int, home: str) -> None:
    """Serve requests on the socket until the parent is gone. The workers run functions of `home`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    control = socket.socket(fileno=descriptor)
    if home == PACKAGE:
        prepare()
    else:
        importlib.import_module(home.partition(":")[0])  # imports what a literal names
    with contextlib.suppress(ConnectionError):  # the caller is gone
        control.sendall(REPLY.pack(0))  # ready
        serve_requests(control, parent, home)
    for pid in list(_workers):  # nobody else would bury them
        end(pid)


def serve_requests(control: socket.socket, parent: int, home: str) -> None:
    """Fork and end workers, until the other side closes the socket or is gone."""
    while True:
        ready, _, _ = select.select([control], [], [], LOOK_S)
        if not ready:
            if os.getppid() != parent:
                return
            continue
        request, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
        if len(request) < REQUEST.size:  # the end
            return
        kind, pid, seconds, memory = REQUEST.unpack(request)
        if kind == FORK:
            reply = fork(control, descriptors[0], seconds, memory, home)
            os.close(descriptors[0])
        else:
            reply = end(pid)
        control.sendall(REPLY.pack(reply))


def prepare() -> None:
    """Import and warm up all that workers need; then nothing of it is touched by the garbage collector, and stays shared."""
    from astro.grading import symbolic, worker_tasks

    for text in WARM_UP:
        symbolic.parse(text)
    worker_tasks.grade_pair("x+1", "1+x")
    gc.collect()
    gc.freeze()


def fork(control: socket.socket, descriptor: int, seconds: float, memory: int, home: str) -> int:
    """A worker on the other end of `descriptor`; its process id, or minus the error number where the system refuses."""
    try:
        pid = os.fork()
    except OSError as error:
        return -(error.errno or 1)
    if pid:
        _workers.add(pid)
        return pid
    try:
        control.close()
        serve(Connection(os.dup(descriptor)), time_limit=seconds, memory_limit=memory, home=home)
    except MemoryError:  # the texts alone are too much
        os._exit(OUT_OF_MEMORY)
    finally:
        os._exit(0)


def end(pid: int) -> int:
    """Kill a worker that is not dead already; its exit status as waitpid gives it, or -1: there is no such worker."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        _workers.discard(pid)
        return status
    except (ChildProcessError, ProcessLookupError):
        return -1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), PACKAGE)
