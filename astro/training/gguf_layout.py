"""The layout of a GGUF file, checked before a reader follows it: counts, lengths and places against the size of the file."""

import math
import mmap
import struct
from pathlib import Path
from typing import NoReturn

from astro.process import UserError, plural

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Type of a value in the metadata -> its format for `struct`."""
STRING, ARRAY = 8, 9
"""The other types."""


def printable(name: bytes) -> str:
    """A name in a file, for a message."""
    return shortened(ascii(name[:200].decode(errors="replace"))[1:-1], 100)


def shortened(text: str, length: int) -> str:
    """A text of at most `length` characters. A damaged file may give a name millions of them."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


class Layout:
    """The parts of a GGUF file, measured without trusting any of its counts.

    GGUFReader believes a count and goes on behind the end of the file, for hours and until the memory is full.
    """

    def __init__(self, file: Path, said: str):
        """Measure nothing yet.

        Args:
            said: the parameter and its value, for messages.
        """
        self.file, self.said = file, said
        self.size, self.at, self.where, self.alignment = file.stat().st_size, 4, "its header", 32

    def check(self) -> None:
        """Walk over the file.

        Raises:
            UserError: it is cut, damaged, of another version or byte order, or contains an unknown quantisation.
        """
        with self.file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as self.content:
            version = self.number("I")
            if version not in (2, 3):
                swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
                what = (
                    "is big-endian, but only little-endian files are"
                    if swapped
                    else f"has the version {version}; 2 and 3 are"
                )
                raise UserError(
                    f"{self.said}: {self.file.name} {what} supported; use a file that a present llama.cpp wrote"
                )
            tensors, keys = self.number("Q"), self.number("Q")
            self.check_keys(keys)
            self.check_tensors(tensors)

    def check_keys(self, count: int) -> None:
        """Walk over the metadata."""
        seen: set[bytes] = set()
        for i in range(count):
            self.where = f"value {i + 1} of {count} of its metadata"
            key = self.text()
            self.where = printable(key)
            if key in seen:
                self.damaged(f"{self.where} is there twice")
            seen.add(key)
            kind = self.number("I")
            start = self.at
            self.value(kind)
            if key == b"general.alignment":
                self.alignment = struct.unpack_from("<I", self.content, start)[0] if kind == 4 else 0
                if self.alignment < 1 or self.alignment & (self.alignment - 1):
                    self.damaged("general.alignment is not a power of two")

    def check_tensors(self, count: int) -> None:
        """Walk over the list of tensors, and compare their places with the size of the file."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        known = {kind.value: GGML_QUANT_SIZES[kind] for kind in GGMLQuantizationType if kind in GGML_QUANT_SIZES}
        seen: set[bytes] = set()
        ends, at = [], 0
        for i in range(count):
            self.where = f"tensor {i + 1} of {count} of its list"
            name = self.text()
            called = printable(name)
            if name in seen:
                self.damaged(f"the tensor {called} is there twice")
            seen.add(name)
            dimensions = self.number("I")
            if not 1 <= dimensions <= 4:
                self.damaged(f"the tensor {called} has {dimensions} dimensions")
            shape = [self.number("Q") for _ in range(dimensions)]
            kind, offset = self.number("I"), self.number("Q")
            if kind not in known:
                raise UserError(
                    f"{self.said}: {self.file.name} contains tensors of an unknown quantisation: ggml type {kind} "
                    f"of {called}; use a file with a usual one, such as Q8_0 or F16"
                )
            block, width = known[kind]
            if not all(shape) or shape[0] % block:
                self.damaged(f"the tensor {called} has the shape {shape}")
            if offset != at:
                self.damaged(f"the tensor {called} begins at byte {offset} of the weights, not at {at}")
            ends.append((at + math.prod(shape) // block * width, called))
            at = -(-ends[-1][0] // self.alignment) * self.alignment
        start = -(-self.at // self.alignment) * self.alignment
        if broken := [called for end, called in ends if start + end > self.size]:
            self.damaged(
                f"the weights of {plural(len(broken), 'tensor')} of {count} are not there, the first is {broken[0]}"
            )

    def value(self, kind: int) -> None:
        """Go on behind a value of the metadata."""
        if kind == STRING:
            self.text()
        elif kind in SCALARS:
            self.skip(struct.calcsize(f"<{SCALARS[kind]}"))
        elif kind == ARRAY:
            kind, count = self.number("I"), self.number("Q")
            if kind == STRING:
                for _ in range(count):
                    self.text()
            elif kind in SCALARS:
                self.skip(struct.calcsize(f"<{SCALARS[kind]}") * count)
            else:
                self.damaged(f"{self.where} is a list of values of the type {kind}")
        else:
            self.damaged(f"{self.where} has the type {kind}")

    def text(self) -> bytes:
        """Read a string."""
        length = self.number("Q")
        start = self.at
        self.skip(length)
        return self.content[start : self.at]

    def number(self, form: str) -> int:
        """Read a number of a format of `struct`."""
        start = self.at
        self.skip(struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self.content, start)[0]

    def skip(self, count: int) -> None:
        """Go on by some bytes."""
        self.at += count
        if self.at > self.size:
            self.damaged(f"it ends within {self.where}")

    def damaged(self, what: str) -> NoReturn:
        """Raise the error about a broken file."""
        raise UserError(
            f"{self.said}: {self.file.name} is cut short or damaged ({self.size} bytes): {what}; fetch it again"
        )
