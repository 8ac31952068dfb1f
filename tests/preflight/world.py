"""Dry runs for the tests: a shipped profile with changes, on a device, with a compute profile."""

from pathlib import Path

from ruamel.yaml import YAML

from astro import plan
from astro.params import PARAMS_FILE, validate
from astro.preflight.dry_run import Report, check_profile
from astro.profiles import find, machine_of, merged, overlay
from schemas.params import Params

PARAMS = PARAMS_FILE.read_text(encoding="utf-8")


def params_of(profile: str, changes: str = "") -> Params:
    """A profile's params with YAML text laid over them."""
    content = YAML(typ="rt").load(merged(find(profile), PARAMS))
    if changes:
        overlay(content, YAML(typ="rt").load(changes), Path("changes"))
    return validate(content, PARAMS_FILE)


def report_of(
    params: Params, profile: str = "llama-3.1-8b", *, device: str = "", compute: str = "", here: bool = False
) -> Report:
    """The dry run of params on the machine that a profile names, or another one."""
    named = machine_of(find(profile))
    lines = [plan.Line("mcts", disk_gb=1.0)]
    return check_profile(
        params,
        f"Profile {profile}",
        device=device or named["device"],
        compute=compute or named["compute"],
        lines=lines,
        here=here,
    )
