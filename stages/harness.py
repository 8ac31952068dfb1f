"""What every stage does around its own work: params in, MLflow run around, metrics and the record of the run out."""

import contextlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from astro import tracking
from astro.params import load_params
from astro.runtime import UserError, digest, digest_path, home_root, write_json
from schemas.records import StageRecord

# Read when OpenMP is loaded, with torch, later. Waiting threads that spin starve every other process of the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

METRICS = Path("metrics")
RECORDS = Path("records")
CURVES = METRICS / "curves"
REPORTS = Path("reports")

DIRECT = "direct"
"""Argument of the training stages for the comparator: direct solutions of the same trees."""


def arm_name(stage: str) -> str:
    """`stage`, or `stage`_direct where the command line asks for the comparator.

    Raises:
        UserError: another argument.
    """
    given = sys.argv[1:]
    if given not in ([], [DIRECT]):
        raise UserError(f"{stage}: unknown argument {' '.join(given)!r}; there is: {DIRECT}")
    return f"{stage}_{DIRECT}" if given else stage


@dataclass
class Stage:
    """A running stage."""

    name: str
    params: object  # schemas.params.Params: not imported, so that no stage depends on the sections of others
    sections: tuple[str, ...]
    tracker: tracking.Tracker
    started: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)

    def work_key(self, inputs: Sequence[Path], code: Sequence[str], *more: object) -> str:
        """Hash of all that determines the result: the params read, the inputs, the code (module files or packages).

        more: what else a killed run's work cannot be gone on from under.
        """
        sections = {name: getattr(self.params, name).model_dump() for name in self.sections}
        return digest(sections, [digest_path(p) for p in inputs], [digest_path(Path(c)) for c in code], *more)

    def log(self, row: dict[str, float], step: int) -> None:
        """A row of a training curve, as `<stage>/<name>`."""
        self.tracker.log_metrics({f"{self.name}/{k}": v for k, v in row.items()}, step=step)

    def finish(self, metrics: BaseModel) -> None:
        """Write metrics/<stage>.json (deterministic) and records/<stage>.json (which run made it, how long, where)."""
        write_json(METRICS / f"{self.name}.json", metrics)
        self.tracker.log_metrics(tracking.numbers(metrics.model_dump(), prefix=self.name))
        seconds = round(time.monotonic() - self.started, 1)
        self.tracker.log_metrics({f"{self.name}/seconds": seconds})
        write_json(
            RECORDS / f"{self.name}.json",
            StageRecord(
                stage=self.name,
                run_id=self.tracker.run_id,
                started=self.started_at,
                seconds=seconds,
                host=platform.node(),
                peak_memory_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
            ),
        )
        print(f"[{self.name}] done in {seconds:.0f} s", flush=True)


@contextlib.contextmanager
def stage(name: str, *sections: str) -> Iterator[Stage]:
    """Open stage `name`, which reads the given sections of params.yaml."""
    params = load_params()
    if params.base.source == "pretrained":
        from astro.dryrun.start import check_start

        check_start(name, params)
    values = {section: getattr(params, section).model_dump() for section in sections}
    with tracking.stage_run(name, values, home_root()) as tracker:
        yield Stage(name, params, sections, tracker)
