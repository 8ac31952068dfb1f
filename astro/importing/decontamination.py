"""Decontamination: drop train and RL problems that duplicate an eval problem after normalisation, or share an n-gram with it.

The n-grams follow GPT-3 and open-r1. An n-gram that occurs in several eval problems, or in many train problems, is a
common phrase ("where m and n are relatively prime positive integers, find m + n") and does not count, unless half of
the problem consists of such n-grams.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from astro.tasks.math.solution_text import same_text, words_of

SHORTEST = 8
"""Words of the shortest eval problem that is searched for as a whole inside a longer one."""

PHRASE_EVAL = 3
"""Number of different eval problems from which a shared n-gram counts as a phrase."""

PHRASE_TRAIN, PHRASE_TRAIN_SHARE = 10, 0.005
"""An n-gram is also a phrase if it occurs in more than this number, and this share, of the train problems."""

COPIED = 0.5
"""Share of n-grams in common with eval problems from which a problem is dropped, even if all of them are phrases."""


@dataclass(frozen=True)
class Hit:
    """An eval problem that a train problem overlaps with. place: as it was passed in; detail: the shared words."""

    reason: Literal["exact", "ngram"]
    place: str
    detail: str


class Index:
    """An index of eval problems. A look-up takes time linear in the length of the question."""

    def __init__(self, problems: Iterable[tuple[str, str]], *, ngram: int):
        """Index the problems.

        Args:
            problems: (place, question).
            ngram: number of consecutive words that count as overlap; 0: only equal problems count.
        """
        self.exact: dict[str, str] = {}
        self.runs: dict[str, str] = {}
        self.lengths: set[int] = set()
        spread: Counter[str] = Counter()
        for place, question in problems:
            key = same_text(question)
            if key in self.exact:
                continue
            self.exact[key] = place
            words = words_of(question)
            length = ngram if len(words) >= ngram else len(words)
            if not ngram or length < min(SHORTEST, ngram):
                continue
            self.lengths.add(length)
            for run in set(_runs(words, length)):
                self.runs.setdefault(run, place)
                spread[run] += 1
        self.phrases = {run for run, count in spread.items() if count >= PHRASE_EVAL}

    def hits(self, questions: Sequence[str]) -> list[Hit | None]:
        """The overlap of each train question with an eval problem; None: there is none."""
        exact = [self.exact.get(same_text(question)) for question in questions]
        matched = [[] if place else self._matched(q) for q, place in zip(questions, exact, strict=True)]
        spread = Counter(run for found in matched for run, _ in found)
        most = max(PHRASE_TRAIN, PHRASE_TRAIN_SHARE * len(questions))
        phrases = self.phrases | {run for run, count in spread.items() if count > most}
        return [
            Hit("exact", place, "") if place else self._hit(question, found, phrases)
            for question, place, found in zip(questions, exact, matched, strict=True)
        ]

    def _matched(self, question: str) -> list[tuple[str, int]]:
        """The indexed n-grams in a question with their lengths, each once, in order."""
        words = words_of(question)
        found = ((run, length) for length in sorted(self.lengths) for run in _runs(words, length) if run in self.runs)
        return list(dict.fromkeys(found))

    def _hit(self, question: str, found: list[tuple[str, int]], phrases: set[str]) -> Hit | None:
        telling = [run for run, _ in found if run not in phrases]
        if not telling and found:
            length = max(length for _, length in found)
            possible = len(words_of(question)) - length + 1
            if sum(size == length for _, size in found) >= COPIED * possible:
                telling = [found[0][0]]
        return Hit("ngram", self.runs[telling[0]], telling[0]) if telling else None


def _runs(words: list[str], length: int) -> list[str]:
    """All n-grams of `length` words, joined by spaces. They are slices of one text, so that 100,000 problems take only
    seconds."""
    text = " ".join(words)
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    starts.append(at)
    return [text[starts[i] : starts[i + length] - 1] for i in range(len(words) - length + 1)]
