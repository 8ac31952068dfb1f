"""What a worker must survive, or not: functions that hang, grow and fail, to try limits out (tests and benchmark)."""

import time


def echo(text: str) -> str:
    """The text."""
    return text


def spin(text: str) -> str:
    """The text; "spin" never comes back, inside one operation that holds the interpreter."""
    return text if text != "spin" else str(len(str(9 ** (9**9))))


def slow(text: str) -> str:
    """The text, a little later."""
    time.sleep(0.005)
    return text


def eat(mebibytes: str) -> int:
    """Holds that much memory for a moment."""
    return len(bytearray(int(mebibytes) << 20)) >> 20


def fail(text: str) -> None:
    """Raises."""
    raise KeyError(text)
