"""Reads one side of an equality as an exact value, from a small grammar and nothing beyond it.

A reader for general LaTeX guesses where it must; a checker that may call a line of mathematics false must not. So what is
not in the grammar is `Unread`, and what has more than one reading in use (3 1/2, 6 / 2 (1 + 2), a decimal that may be
rounded) is marked. Text is never evaluated: numbers are bounded before they are computed.
"""

import re
from dataclasses import dataclass

import sympy

MAX_SIDE = 400
MAX_DEPTH = 40
MAX_EXPONENT = 400
MAX_BITS = 4000
"""Larger texts and numbers are not read."""

_TOKEN = re.compile(
    r"\s+|(?P<number>\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?(?!\d)|\d+\.\d+|\.\d+|\d+)"
    r"|\\(?:left|right|[bB]igg?[lr]?|displaystyle|[,;:! ])(?![a-zA-Z])|\\(?:text|mathrm)\s*\{(?P<unit>[^{}]*)\}"
    r"|\\(?P<command>[a-zA-Z]+|%)|(?P<letter>[a-zA-Z])|(?P<sign>[-+*/^(){}\[\]|!%°]|[−–×·⋅÷√π])"
)
_SIGNS = {"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "√": "sqrt", "π": "pi", "°": "degree"}
_COMMANDS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "frac": "frac", "dfrac": "frac", "tfrac": "frac", "cfrac": "frac",
    "sqrt": "sqrt", "binom": "binom", "dbinom": "binom", "tbinom": "binom", "pi": "pi", "%": "%", "circ": "degree",
    "degree": "degree", "lbrace": "(", "rbrace": ")", "vert": "|", "lvert": "|", "rvert": "|",
}  # fmt: skip
_GREEK = {"alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega", "sigma", "rho", "tau", "epsilon"}
_STARTS = ("number", "letter", "unit", "frac", "sqrt", "binom", "pi", "(", "[")


class Unread(ValueError):
    """The text is not in the grammar, or too large."""


@dataclass(slots=True)
class Side:
    """What a side says.

    Attributes:
        value: exact; symbols are free letters.
        guessed: another reading is in use too.
        decimals: most digits behind a point of any number in it; None: no decimal fraction.
        bare: a number or a letter alone, nothing to compute.
        divided: holds a quotient.
    """

    value: sympy.Expr
    guessed: bool
    decimals: int | None
    bare: bool
    divided: bool


def read_side(text: str, *, mixed: bool = False) -> Side:
    """The value of `text`; mixed: 3\\frac{1}{2} is three and a half, else three times a half. Raises Unread."""
    if len(text) > MAX_SIDE:
        raise Unread("too long")
    reader = _Reader(_tokens(text), mixed)
    value = reader.sum(0)
    if reader.at != len(reader.tokens):
        raise Unread(f"unexpected {reader.tokens[reader.at][1]!r}")
    return Side(value, reader.guessed, reader.decimals, reader.operations == 0, reader.divided)


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) of each token; the kind of a sign is the sign."""
    found, at = [], 0
    text = re.sub(r"[.,;:]+$", "", text.strip())
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise Unread(f"unread {text[at : at + 10]!r}")
        at = match.end()
        kind = match.lastgroup
        if kind == "sign":
            found.append((_SIGNS.get(match[0], match[0]), match[0]))
        elif kind == "command":
            name = match["command"]
            if name not in _COMMANDS and name not in _GREEK:
                raise Unread(f"unknown \\{name}")
            found.append((_COMMANDS.get(name, "letter"), name))
        elif kind is not None:
            found.append((kind, match[kind]))
    return found


class _Reader:
    """Recursive descent: sum, product, power, atom."""

    def __init__(self, tokens: list[tuple[str, str]], mixed: bool):
        self.tokens, self.at, self.mixed = tokens, 0, mixed
        self.guessed = self.divided = False
        self.decimals: int | None = None
        self.operations = 0

    def peek(self) -> str:
        """Kind of the next token; "" at the end."""
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, kind: str) -> str:
        """The text of the next token, which must be of this kind."""
        if self.peek() != kind:
            raise Unread(f"expected {kind}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def sum(self, depth: int) -> sympy.Expr:
        """product + product - ..."""
        if depth > MAX_DEPTH:
            raise Unread("too deep")
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            sign = self.take(self.peek())
            self.operations += 1
            value = value + self.product(depth) if sign == "+" else value - self.product(depth)
            _bounded(value)
        return value

    def product(self, depth: int) -> sympy.Expr:
        """Factors beside each other or joined by a sign."""
        start, value = self.at, self.signed(depth)
        divided_at_last = False
        while True:
            kind = self.peek()
            before = self.tokens[self.at - 1][0]
            if kind in ("*", "/"):
                self.at += 1
                self.operations += 1
                factor = self.signed(depth)
                value = self.quotient(value, factor) if kind == "/" else value * factor
                divided_at_last = kind == "/"
            elif kind in _STARTS:
                # 3 1/2 and 3\frac12 may be mixed numbers, 6/2(1+2) has two readings
                if kind == "number" and before == "number":
                    raise Unread("two numbers beside each other")
                self.guessed |= divided_at_last or (kind == "frac" and before == "number") or kind == "number"
                self.operations += 1
                if self.mixed and kind == "frac" and self.at - start == 1:
                    value = value + self.power(depth)
                else:
                    value = value * self.power(depth)
            else:
                return value
            _bounded(value)

    def signed(self, depth: int) -> sympy.Expr:
        """A factor with its sign; -2^2 is read as -(2^2) and may be meant as (-2)^2."""
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take(self.peek()) == "-"
        start = self.at
        value = self.power(depth)
        if negative:
            self.guessed |= any(kind == "^" for kind, _ in self.tokens[start : self.at])
            return -value
        return value

    def power(self, depth: int) -> sympy.Expr:
        """An atom, what is written behind it, and its exponent."""
        value = self.atom(depth)
        while self.peek() in ("!", "%", "degree"):
            kind = self.peek()
            self.at += 1
            if kind == "!":
                if not (value.is_Integer and 0 <= value <= MAX_EXPONENT):
                    raise Unread("factorial")
                self.operations += 1
                value = sympy.factorial(value)
            elif kind == "%":
                self.guessed = True
                value = value / 100
            else:
                value = value * sympy.Symbol("degree")
        if self.peek() == "^":
            self.at += 1
            if self.peek() == "degree" or (
                self.peek() == "{" and self.tokens[self.at + 1 : self.at + 2] == [("degree", "circ")]
            ):
                self.at += 1 if self.peek() == "degree" else 3
                return value * sympy.Symbol("degree")
            self.operations += 1
            value = _raised(value, self.argument(depth, exponent=True))
            if self.peek() == "^":
                raise Unread("double exponent")
        return value

    def atom(self, depth: int) -> sympy.Expr:
        """A number, a letter, a bracket, a fraction, a root, a binomial or an absolute value."""
        kind = self.peek()
        if kind == "number":
            return self.number(self.take("number"))
        if kind == "letter":
            return sympy.Symbol(self.take("letter"))
        if kind == "unit":
            return sympy.Symbol("unit " + " ".join(self.take("unit").split()))
        if kind == "pi":
            self.at += 1
            return sympy.pi
        for opening, closing in ("()", "[]", "{}", "||"):
            if kind == opening:
                self.at += 1
                value = self.sum(depth + 1)
                self.take(closing)
                return sympy.Abs(value) if opening == "|" else value
        if kind == "frac":
            self.at += 1
            self.operations += 1
            return self.quotient(self.argument(depth), self.argument(depth))
        if kind == "sqrt":
            return self.root(depth)
        if kind == "binom":
            self.at += 1
            self.operations += 1
            top, bottom = self.argument(depth), self.argument(depth)
            if not (top.is_Integer and bottom.is_Integer and 0 <= bottom <= top <= MAX_EXPONENT):
                raise Unread("binomial")
            return sympy.binomial(top, bottom)
        raise Unread(f"unexpected {kind or 'end'}")

    def root(self, depth: int) -> sympy.Expr:
        """\\sqrt[n]{x} of a number that is not negative, or \\sqrt{x} of anything."""
        self.take("sqrt")
        self.operations += 1
        index = sympy.Integer(2)
        if self.peek() == "[":
            self.at += 1
            index = self.sum(depth + 1)
            self.take("]")
        inside = self.argument(depth)
        if not (index.is_Integer and 2 <= index <= 10) or inside.is_negative:
            raise Unread("root")
        return sympy.root(inside, index)

    def argument(self, depth: int, *, exponent: bool = False) -> sympy.Expr:
        """What a command or ^ applies to: a group, or one sign; of a longer number LaTeX takes the first digit only."""
        kind = self.peek()
        if kind == "{":
            return self.atom(depth)
        if kind == "number":
            text = self.tokens[self.at][1]
            if len(text) == 1 or exponent:  # 2^10 is meant as it reads, and set as 2^1 0
                self.guessed |= len(text) > 1
                return self.number(self.take("number"))
            self.tokens[self.at : self.at + 1] = [("number", text[0]), ("number", text[1:])]
            self.take("number")
            return sympy.Integer(int(text[0]))
        if exponent and kind in ("-", "("):
            self.guessed = True
            return self.signed(depth) if kind == "-" else self.atom(depth)
        if kind in ("letter", "pi", "sqrt", "frac"):
            return self.atom(depth)
        raise Unread("argument")

    def number(self, text: str) -> sympy.Expr:
        """A number as it is written."""
        plain = re.sub(r"[^\d.]", "", text)
        if len(plain) > MAX_BITS // 4:
            raise Unread("long number")
        if "." in plain:
            self.decimals = max(self.decimals or 0, len(plain.partition(".")[2]))
        self.guessed |= plain != text  # 1,000 may be two numbers
        return sympy.Rational(plain)

    def quotient(self, top: sympy.Expr, bottom: sympy.Expr) -> sympy.Expr:
        """A quotient; by zero it has no value."""
        if bottom.is_zero:
            raise Unread("division by zero")
        self.divided = True
        return top / bottom


def _raised(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """A power whose size is known before it is computed."""
    if exponent.is_number:
        if not exponent.is_Rational or abs(exponent) > MAX_EXPONENT:
            raise Unread("exponent")
        if base.is_zero and exponent <= 0:
            raise Unread("power of zero")
        if base.is_number and not base.is_Rational and abs(exponent) > 12:
            raise Unread("power of an irrational number")
        if base.is_Rational and max(abs(base.p), base.q).bit_length() * abs(exponent) > MAX_BITS:
            raise Unread("large power")
        if base.is_negative and not exponent.is_Integer:
            raise Unread("root of a negative number")
        if not base.is_number and (base.is_Add and abs(exponent) > 20):
            raise Unread("large power of a sum")
    return base**exponent


def _bounded(value: sympy.Expr) -> None:
    """Raise Unread where a number grows out of bounds."""
    if value.is_Rational and max(abs(value.p), value.q).bit_length() > MAX_BITS:
        raise Unread("large number")
