"""`make ui`: browse the runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from astro.tracking import store


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m astro.tracking ui`: MLflow's pages over the project's store, in 2 processes instead of 15."""
    parser = argparse.ArgumentParser(prog="python -m astro.tracking")
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser("ui", help="serve MLflow's pages over the project's store")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    ui.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: here)")
    args = parser.parse_args(argv)
    uri = store.store_uri(args.root)
    if uri.startswith("http"):
        print(f"the store is a server: open {uri}")
        return 0
    if not uri.startswith(store.SQLITE) or not Path(uri.removeprefix(store.SQLITE)).exists():
        store.load(args.root)  # make it under the lock, in case a stage starts now
    # Job execution (evaluation jobs, huey workers) is 12 of the 15 processes, and nothing here submits a job.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    where = ["--backend-store-uri", uri]
    if folder := store.artifact_folder(uri):
        where += ["--artifacts-destination", str(folder), "--default-artifact-root", folder.as_uri()]
    print(f"serving {uri} at http://{args.host}:{args.port}", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1"]
    os.execve(sys.executable, [*server, "--host", args.host, "--port", str(args.port)], environment)


if __name__ == "__main__":
    sys.exit(main())
