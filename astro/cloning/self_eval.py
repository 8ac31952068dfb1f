"""Self-evaluation: the LM votes on whether a solution is sound (Appendix A.1). Sans-I/O: a callable obtains the votes."""

import re
from collections.abc import Callable, Sequence

_FIRST_WORD = re.compile(
    r"\W*(?:(?:the|my|final)\s+)*(?:(?:answer|verdict|vote|judge?ment)\b\s*(?:is\b)?)?\W*(?:boxed\W*)?(\w+)",
    re.IGNORECASE,
)
"""Pattern of a vote's first word, after markup and a lead such as "**Answer:**" or "My verdict is"."""


def sound_share(votes: Sequence[str], sound: str) -> float:
    """Share of votes whose first word means "sound", in any case. An unreadable vote counts as a no."""
    words = (_FIRST_WORD.match(vote) for vote in votes)
    return sum(word is not None and word[1].lower() == sound.lower() for word in words) / len(votes)


def passing(
    candidates: Sequence[int],
    *,
    ask: Callable[[Sequence[int]], list[list[str]]],
    sound: Callable[[int], str],
    min_share: float,
) -> list[int]:
    """The candidates whose votes reach `min_share`, in order. `ask` returns the votes of each candidate."""
    ballots = ask(candidates)
    return [c for c, votes in zip(candidates, ballots, strict=True) if sound_share(votes, sound(c)) >= min_share]
