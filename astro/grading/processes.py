"""Worker processes as their caller sees them: started, handed out, ended, replaced.

No signal is used and no handler set in the calling process; it may call from any thread, be forked, and be daemonic itself.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from astro.grading.fork_server import END, FORK, REPLY, REQUEST
from astro.grading.worker import OUT_OF_MEMORY, PACKAGE
from astro.process import MachineFault

ROOT = Path(__file__).resolve().parents[2]
START_S = 600.0
"""How long the imports of the first process may take: three seconds, but minutes where others have all the cores."""

ANSWER_S = 60.0
"""How long the first process may take for a request, which costs milliseconds: one that was stopped is replaced."""

PATIENCE_S = 10.0
"""How long a system that refuses new processes is asked again."""

OWN_FAULTS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGXCPU,
    signal.SIGSYS,
}
"""Signals that the kernel or the C library sends to a process for what it has done itself."""

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[3]); "
    "from astro.grading.fork_server import main; main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[4])"
)


RUNNING, SLEEPING = "R", "S"


class GraderFault(MachineFault):
    """The machine let no grading end: no worker starts, or something ends each one. It says nothing about the answer."""


@dataclass(eq=False)
class Worker:
    """One worker process."""

    pid: int
    pipe: Connection

    def state(self) -> str:
        """What it does: R for running or waiting for a core, T for stopped, S for waiting; "" where the system does not say."""
        with contextlib.suppress(OSError, IndexError):
            return (
                Path(f"/proc/{self.pid}/stat")
                .read_text(encoding="ascii", errors="replace")
                .rpartition(")")[2]
                .split()[0]
            )
        return ""


class Zygote:
    """The process that workers are forked from, and the requests to it. Used under its pool's lock of requests."""

    def __init__(self, home: str) -> None:
        """The workers run functions of `home`.

        Raises:
            OSError: the system refuses a process, or it ends at once.
        """
        ours, theirs = socket.socketpair()
        try:
            command = [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                _PROGRAM,
                str(theirs.fileno()),
                str(os.getpid()),
                str(ROOT),
                home,
            ]
            # one hash seed: what sympy finds must not depend on the run
            environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        self._control.settimeout(START_S)
        try:
            self._reply()
        except BaseException:  # too slow, or it could not import
            self.close()
            raise
        self._control.settimeout(ANSWER_S)

    def fork(self, time_limit: float, memory_limit: int) -> Worker:
        """A new worker.

        Raises:
            OSError: refused.
        ConnectionError, TimeoutError: this process is gone, or does not answer.
        """
        ours, theirs = socket.socketpair()
        try:
            request = REQUEST.pack(FORK, 0, time_limit, memory_limit)
            socket.send_fds(self._control, [request], [theirs.fileno()])
            pid = self._reply()
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            return Worker(pid, Connection(ours.detach()))
        finally:
            theirs.close()
            ours.close()

    def end(self, worker: Worker) -> int:
        """Kill a worker; its exit status.

        Raises:
            OSError: this process is gone (its workers then are, too), or does not answer.
        """
        self._control.sendall(REQUEST.pack(END, worker.pid, 0, 0))
        return self._reply()

    def _reply(self) -> int:
        answer = b""
        while len(answer) < REPLY.size:
            piece = self._control.recv(REPLY.size - len(answer))
            if not piece:
                raise ConnectionError("the process that starts grading workers has ended")
            answer += piece
        return REPLY.unpack(answer)[0]

    def close(self) -> None:
        """End it, and with it all its workers: the kernel ends them when it is gone."""
        self._control.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked copy of the caller: the process is the original's, the copy lets go of its end."""
        self._control.close()
        self._process.returncode = 0  # not ours to wait for


class Workers:
    """Up to `size` workers, handed out to threads."""

    def __init__(self, size: int, time_limit: float, memory_limit: int, home: str = PACKAGE) -> None:
        self.size, self.time_limit, self.memory_limit, self.home = size, time_limit, memory_limit, home
        self._fresh()

    def _fresh(self) -> None:
        self._free = threading.Condition()
        self._requests = threading.Lock()
        self._zygote: Zygote | None = None
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._count = 0
        self.waiting = 0
        """Threads that wait for a worker."""

    def take(self, *, wait: bool, fresh: bool = False) -> Worker | None:
        """A worker; None: all are busy, and `wait` is off. fresh: one that has done nothing yet.

        Raises:
            GraderFault: the system refuses a process, for longer than patience lasts.
        """
        with self._free:
            while not self._idle and self._count >= self.size:
                if not wait:
                    return None
                self.waiting += 1
                try:
                    self._free.wait()
                finally:
                    self.waiting -= 1
            used = self._idle.pop() if self._idle else None
            if used and not fresh:
                return used
            self._count += 1
        if used:
            self.end(used)
        try:
            worker = self._start(PATIENCE_S if wait else 0.0)
        except BaseException:
            with self._free:
                self._count -= 1
                self._free.notify()
            raise
        self._all.add(worker)
        return worker

    def give(self, worker: Worker) -> None:
        """Hand a worker back that has nothing outstanding."""
        with self._free:
            self._idle.append(worker)
            self._free.notify()

    def end(self, worker: Worker) -> str:
        """Kill a worker, or bury it.

        Returns:
            What it ended of: "time limit" or "memory limit", which its task overran, "crashed", which its task may have caused,
            or "died", where somebody else ended it.
        """
        worker.pipe.close()
        status = -1
        with self._requests:
            if self._zygote:
                try:
                    status = self._zygote.end(worker)
                except OSError:
                    self._drop_zygote()
        with self._free:
            self._all.discard(worker)
            self._count -= 1
            self._free.notify()
        if status >= 0 and os.WIFSIGNALED(status):
            if os.WTERMSIG(status) == signal.SIGPROF:
                return "time limit"
            return "crashed" if os.WTERMSIG(status) in OWN_FAULTS else "died"
        if status >= 0 and os.WIFEXITED(status) and os.WEXITSTATUS(status) == OUT_OF_MEMORY:
            return "memory limit"
        return "died"

    def _start(self, patience: float) -> Worker:
        until, pause = time.monotonic() + patience, 0.05
        while True:
            try:
                with self._requests:
                    try:
                        self._zygote = self._zygote or Zygote(self.home)
                        return self._zygote.fork(self.time_limit, self.memory_limit)
                    except (ConnectionError, TimeoutError):
                        self._drop_zygote()
                        raise
            except OSError as error:
                if time.monotonic() + pause > until:
                    raise GraderFault(f"the grader cannot start a worker process: {error}") from error
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _drop_zygote(self) -> None:
        if self._zygote:
            self._zygote.close()
            self._zygote = None

    def close(self) -> None:
        """End all workers. Those that are handed out end too."""
        with self._free:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for worker in idle:
            worker.pipe.close()
            self._all.discard(worker)
        with self._requests:
            self._drop_zygote()

    def forget(self) -> None:
        """In a forked copy of the caller: begin anew, and let the original's workers be."""
        for worker in self._all:
            worker.pipe.close()
        if self._zygote:
            self._zygote.forget()
        self._fresh()
