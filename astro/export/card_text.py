"""Text fragments that both cards share."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astro.export.model_files import BASE, licence_fields
from astro.export.source_run import Run
from astro.process import plural
from schemas.evaluate import Estimate

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (float("inf"), "n>1M"),
)
"""Upper limit of rows -> the hub's name of the size."""

HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"


def percent(estimate: Estimate) -> str:
    """52.5 [49.1, 55.9]: the estimate and its 95 % interval, in per cent."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def public(value: Any) -> Any:
    """A param in a form fit for a card: folders by their last name, addresses without user and password."""
    if isinstance(value, Mapping):
        return {k: public(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [public(v) for v in value]
    if isinstance(value, str) and re.match(r"(/|~|[A-Za-z]:\\)", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    if isinstance(value, str):
        return re.sub(r"://[^/\s@]*@", "://", value)
    return value


def base_called(run: Run) -> str:
    """The name of the base model in words."""
    if run.params.base.source == "train":
        return f"a Llama of {run.metrics['base'].parameters:,} parameters, trained from scratch in the same run"
    name, revision = public(run.params.base.pretrained.path), run.params.base.pretrained.revision
    warmup, origin = run.params.base.warmup, origin_of()
    called = f"{name}{f' at revision {revision}' if revision else ''}"
    if origin:
        called = (
            f"{origin['name'] or name} ({origin['source']}, dequantised from {origin['quantisation']}, sha256 "
            f"{origin['sha256']})"
        )
    return called + (
        f", warmed up by {plural(warmup.steps, 'step')} on solutions written in one go" if warmup.steps else ""
    )


def origin_of() -> dict[str, Any]:
    """The origin of a base that was converted from another format, from models/base; {}: it was not converted."""
    path = BASE / "origin.json"
    return json.loads(path.read_bytes()) if path.is_file() else {}


def base_hub_id(run: Run) -> str | None:
    """Hub id of the base; None: it was trained here, or comes from a folder."""
    path = run.params.base.pretrained.path
    hub = run.params.base.source == "pretrained" and re.fullmatch(HUB_ID, path) and not Path(path).exists()
    hub = hub and not path.endswith(".gguf")
    return path if hub else None


def lineage_line(run: Run) -> str:
    """One sentence: commit, seed, fingerprint."""
    commit = f"commit `{run.commit}`" if run.commit else "a state of `dvc.lock` that was not committed"
    return f"Run `{run.fingerprint}`: {commit}, `run.seed` {run.params.run.seed}."


def licence_lines(run: Run) -> str:
    """The section on licences in both cards."""
    fields = licence_fields()
    if run.params.base.source == "train":
        base = "The base was trained in this run on generated text: no licence of another model applies."
    elif fields:
        base = f"The base, {base_called(run)}, gives its licence as: {', '.join(fields.values())}."
    else:
        base = f"The folder of the base, {base_called(run)}, does not give its licence: look it up before you pass this on."
    if run.params.problems.source == "generated":
        return f"## Licence\n{base} The problems are generated."
    sources = sorted({spec.dataset or spec.path for spec in run.params.problems.files.values()})
    named = ", ".join(f"`{public(source)}`" for source in sources)
    return f"## Licence\n{base} The problems are others': {named}; their terms apply to texts made from them."
