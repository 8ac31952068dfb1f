"""Ends a Ray cluster whose driver is dead. After a SIGKILL of the driver, Ray ends most of its processes, but not all.

    python -m astro.execution.ray_reaper MARK FOLDER  # `astro.execution.ray_runner` starts it and holds its standard input

Every process of the cluster inherits an environment variable with the value MARK. Processes that overwrite it with
their title write logs below FOLDER. When the driver's end of the pipe closes, for whatever reason, the remaining
processes are killed and FOLDER (Ray's sessions and logs) is removed.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

MARK = "ASTRO_RAY_CLUSTER"
"""Name of the environment variable."""

ROUNDS, ROUND_S = 100, 0.1
QUIET = 10
"""Consecutive rounds without any process, after which none is left."""


def marked(mark: str, folder: Path) -> list[psutil.Process]:
    """Processes of the cluster, except this one and its parent. The parent is the driver, which may still have work."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            other = process.pid not in (os.getpid(), os.getppid())
            if other and alive and (_inherits(process, mark) or _writes(process, folder)):
                found.append(process)
    return found


def _inherits(process: psutil.Process, mark: str) -> bool:
    return process.environ().get(MARK) == mark


def _writes(process: psutil.Process, folder: Path) -> bool:
    return any(Path(file.path).is_relative_to(folder) for file in process.open_files())


def main() -> None:
    """Wait for the end of the driver, then clean up."""
    mark, folder = sys.argv[1], Path(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the driver, which then closes the pipe
    sys.stdin.buffer.read()
    quiet = 0
    for _ in range(ROUNDS):
        left = marked(mark, folder)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        quiet = 0 if left else quiet + 1
        if quiet == QUIET:
            break
        time.sleep(ROUND_S)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
