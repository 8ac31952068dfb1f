"""`make ui`: browse the runs."""

import argparse
import errno
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from astro.process import UserError, run_stage
from astro.tracking import connectivity, store


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m astro.tracking ui`: MLflow's pages over the project's store, with 2 processes instead of 15."""
    parser = argparse.ArgumentParser(prog="astro" if sys.argv[0] == "astro ui" else "python -m astro.tracking")
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser(
        "ui", help="serve MLflow's pages for the project's store", description="Browse the runs in MLflow."
    )
    ui.add_argument("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1, this machine alone)")
    ui.add_argument("--port", type=int, default=5000, help="port to serve at (default: 5000)")
    ui.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: this folder)")
    args = parser.parse_args(argv)
    uri = store.store_uri(args.root)
    if uri.startswith("http"):
        print(f"the store is a server; open {uri}")
        return
    require_port(args.host, args.port)
    store.drop_left_over()
    file = store.database_file(uri)
    if file and file.exists():
        with store.locked(args.root, uri), connectivity.told(uri):
            store.adopt_artifacts(uri)
    else:
        store.load(args.root)  # created under the lock, in case a stage starts now
    # Job execution (evaluation jobs, huey workers) needs 12 of the 15 processes, and nothing here submits a job.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    where = ["--backend-store-uri", uri]
    if folder := store.artifact_folder(uri):
        where += ["--artifacts-destination", folder.as_uri(), "--default-artifact-root", folder.as_uri()]
    # By default the page shows the view for developers of agents when traces exist, and calls models "agent versions".
    print(f"serving {uri} at http://{args.host}:{args.port}/?workflowType=machine_learning", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1"]
    os.execve(sys.executable, [*server, "--host", args.host, "--port", str(args.port)], environment)


def require_port(host: str, port: int) -> None:
    """Refuse an unusable port before the server fails with a stack trace.

    Raises:
        UserError: the port is taken, forbidden or invalid, or the host is not this machine.
    """
    if not 0 < port < 2**16:
        raise UserError(f"port {port}: expected 1 to 65535; choose another port: make ui PORT=5000")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the server does: a port in TIME_WAIT is free
            probe.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use, perhaps by another `make ui`" if taken else f"cannot be used ({error.strerror})"
        where = "port" if host == "127.0.0.1" else f"{host}, port"
        raise UserError(
            f"{where} {port} {reason}; choose another port: make ui PORT={port + 1 if taken else 5000}"
        ) from None


if __name__ == "__main__":
    run_stage(main)
