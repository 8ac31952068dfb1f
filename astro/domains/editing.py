"""The editor of a domain: how its chains are rewritten by a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from astro.domains import Domain
from astro.runtime import UserError

if TYPE_CHECKING:
    from astro.domains.math.rewrite import MathEditor


def get_editor(domain: Domain, *, shots: int, phrases: Sequence[str]) -> "MathEditor":
    """The editor for `domain`; its prompts go through the chat template of the domain, if that has one.

    Raises:
        UserError: the domain has none, or its few-shot examples cannot be read.
    """
    from astro.domains.math.domain import Math
    from astro.domains.math.rewrite import MathEditor

    if not isinstance(domain, Math):
        raise UserError(f"linearize.writer lm: domain {type(domain).__name__} has no prompts to be rewritten with")
    return MathEditor(domain, shots=shots, phrases=phrases)
