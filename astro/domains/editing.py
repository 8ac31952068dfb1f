"""The editor of a domain: how its chains are rewritten by a model."""

from collections.abc import Sequence

from astro.domains import Domain
from astro.domains.math import Math
from astro.domains.math_rewrite import MathEditor
from astro.runtime import UserError


def get_editor(domain: Domain, *, shots: int, phrases: Sequence[str]) -> MathEditor:
    """The editor for `domain`; its prompts go through the chat template of the domain, if that has one.

    Raises:
        UserError: the domain has none, or its few-shot examples cannot be read.
    """
    if not isinstance(domain, Math):
        raise UserError(f"linearize.writer lm: domain {type(domain).__name__} has no prompts to be rewritten with")
    return MathEditor(domain, shots=shots, phrases=phrases)
