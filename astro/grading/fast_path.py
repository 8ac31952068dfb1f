"""What is decided without sympy: formulas that are sound at sight; all else needs a worker."""

import re
from fractions import Fraction

from astro.grading.parse import Value


class NeedsSympy(Exception):
    """The caller cannot decide this pair by itself."""


class NoFormulas:
    """Knows only formulas that are sound at sight; all else needs a worker."""

    def check(self, text: str) -> None:
        """Digits, letters, roots and signs cannot be without a value."""
        if not _SOUND.fullmatch(text):
            raise NeedsSympy

    def same(self, gold: str, given: str) -> bool:
        """Not here."""
        raise NeedsSympy

    def rounds_to(self, text: str, value: Fraction, places: int) -> bool:
        """Not here."""
        raise NeedsSympy

    def near(self, text: str, value: Fraction) -> bool:
        """Not here."""
        raise NeedsSympy

    def same_equation(self, gold: tuple[str, str], given: tuple[str, str], sign: str) -> bool:
        """Not here."""
        raise NeedsSympy

    def same_set(self, gold: Value, given: Value) -> bool:
        """Not here."""
        raise NeedsSympy

    def same_family(self, gold: str, given: str, letter: str) -> bool:
        """Not here."""
        raise NeedsSympy


_ROOT = r"\\sqrt\{[1-9]\d{0,8}\}"
_SOUND = re.compile(  # atomic: nothing in it can be read in two ways, and a failure costs no more than a match
    rf"(?>[0-9a-zA-Z()+ .-]|\\(?:pi|cdot|times|sin|cos|alpha|beta|theta)(?![a-zA-Z])|\\sqrt\{{\d{{1,9}}\}}"
    rf"|\\frac\{{(?>[0-9a-z+ -]|\\pi|{_ROOT}){{1,30}}\}}\{{(?:[1-9]\d{{0,8}}|{_ROOT}|\\pi)\}}|\^\{{[2-9]\}}|_\{{?\w\}}?)+"
)
"""Formulas without a division by anything but a number that is not 0."""
