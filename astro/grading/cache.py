"""Grades of pairs seen before: in GRPO a group of completions often gives the same answer, and problems come again."""

import threading
from collections import OrderedDict

from astro.grading.compare import Grade

LONGEST = 2000
"""Characters of a pair that is kept: with them the cache has a bound in bytes."""


class Cache:
    """The last `size` pairs. Safe to use from threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._grades: OrderedDict[tuple[str, str], Grade] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, gold: str, answer: str) -> Grade | None:
        """The grade of a pair; None: it is not kept."""
        with self._lock:
            grade = self._grades.get((gold, answer))
            if grade is not None:
                self._grades.move_to_end((gold, answer))
            return grade

    def put(self, gold: str, answer: str, grade: Grade) -> None:
        """Keep a grade; the pair that was not asked for the longest time goes, where there are too many."""
        if self._size <= 0 or len(gold) + len(answer) > LONGEST:
            return
        with self._lock:
            self._grades[gold, answer] = grade
            self._grades.move_to_end((gold, answer))
            while len(self._grades) > self._size:
                self._grades.popitem(last=False)

    def __len__(self) -> int:
        return len(self._grades)
