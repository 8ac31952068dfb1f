"""What a worker must survive, or not: functions that hang, grow and fail, to try limits out (tests and benchmark)."""

import ctypes
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


def long(text: str) -> str:
    """The text, after a third of a second: long enough to be ended meanwhile."""
    time.sleep(0.3)
    return text


def crash(text: str) -> str:
    """Ends its process by an address that is not there, as a stack does that overflows in C."""
    return ctypes.string_at(8, len(text)).decode()


def lack(text: str) -> str:
    """Finds no file of this name."""
    with open(f"/nowhere/{text}", encoding="utf-8") as file:
        return file.read()
