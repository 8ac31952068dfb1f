"""Self-evaluation: the LM votes whether a solution is sound (Appendix A.1). Sans-I/O: votes are asked for by a callable."""

from collections.abc import Callable, Sequence


def sound_share(votes: Sequence[str], sound: str) -> float:
    """Share of votes that begin with the word for "sound", in either case (an unreadable vote is a no)."""
    return sum(vote.strip().lower().startswith(sound.lower()) for vote in votes) / len(votes)


def passing(
    candidates: Sequence[int],
    *,
    ask: Callable[[Sequence[int]], list[list[str]]],
    sound: Callable[[int], str],
    min_share: float,
) -> list[int]:
    """Candidates whose votes reach `min_share`, in their order. `ask` returns the votes of each candidate."""
    ballots = ask(candidates)
    return [c for c, votes in zip(candidates, ballots, strict=True) if sound_share(votes, sound(c)) >= min_share]
