"""Former names of parameters. Kept results are read with them, and the error for an old params file names the present one."""

from collections.abc import Sequence
from typing import NamedTuple

AFFECTS_RESULTS = False  # params with a former name are refused, and results are only read


class Renamed(NamedTuple):
    """One parameter that has another name now."""

    section: str
    """Its section, in present names; `*`: any key. One of `grpo` or `sft` holds for the values of an arm too."""
    was: str
    now: str


RENAMED = (
    Renamed("run", "domain", "task"),
    Renamed("execution.endpoint", "patience_s", "wait_timeout_s"),
    Renamed("execution.ray", "patience_s", "wait_timeout_s"),
    Renamed("execution.grpo_vllm.server", "patience_s", "wait_timeout_s"),
    Renamed("problems.eval.*", "numbers", "level"),
    Renamed("mcts", "k", "num_actions"),
    Renamed("mcts", "rollouts", "rollouts_per_child"),
    Renamed("mcts", "iterations", "num_simulations"),
    Renamed("linearize", "checked", "require_sound_steps"),
    Renamed("grpo", "max_completion", "max_completion_length"),
    Renamed("grpo.restart", "share", "fraction"),
    Renamed("eval", "search", "mcts_problems"),
    Renamed("eval", "bootstrap", "bootstrap_resamples"),
)


def _names(section: Sequence[str]) -> dict[str, str]:
    """Former -> present name of the renamed parameters of a section."""
    path = section[2:] if section[:1] == ("arms",) else section  # arms.<arm>.grpo holds values of grpo
    found = {}
    for one in RENAMED:
        wanted = one.section.split(".")
        if len(wanted) == len(path) and all(want in ("*", part) for want, part in zip(wanted, path, strict=True)):
            found[one.was] = one.now
    return found


def with_present_names(params: dict, section: tuple[str, ...] = ()) -> dict:
    """A copy of `params` (or of a section of them) with present names, in the same order. If both names are there, both stay."""
    names = {was: now for was, now in _names(section).items() if now not in params}
    return {
        name: with_present_names(value, (*section, name)) if isinstance(value, dict) else value
        for name, value in ((names.get(key, key), value) for key, value in params.items())
    }


def remedy(location: Sequence[object]) -> str:
    """End of the error for an unknown key, such as "; mcts.k is now mcts.num_actions"; "" if it has not been renamed."""
    *section, key = map(str, location)
    now = _names(section).get(key)
    return f"; {'.'.join([*section, key])} is now {'.'.join([*section, now])}" if now else ""
