r"""Numbers of combinations and remainders in one way of writing: C_8^3, {}_8C_3, 8C3, C(8,3) as \binom{8}{3}, 17 mod 5 as 2.

Works on cleaned text. C_1 with an exponent stays what it is: a combination chooses no more than there are.
"""

import re

_PART = r"(?:\{([^{}]{1,20})\}|(\d{1,4}|[a-z]))"
_LETTER = r"(?<![a-zA-Z\\])(?:\\text *\{{ *({0}) *\}}|({0}))"
_UNDER_OVER = re.compile(rf"{_LETTER.format('[CAP]')} *_ *{_PART} *\^ *{_PART}")
_OVER_UNDER = re.compile(rf"{_LETTER.format('[CAP]')} *\^ *{_PART} *_ *{_PART}")
_BEFORE = re.compile(rf"(?<![\w)}}])(?:\{{ *\}} *)?[_^] *{_PART} *(?:\\text *\{{ *([CPA]) *\}}|([CPA])) *_ *{_PART}")
_INLINE = re.compile(r"(?<![\w.\\])(\d{1,4}) ?([CP]) ?(\d{1,4})(?![\w(:])")
_NAMED = re.compile(r"(?<![a-zA-Z\\])n ?C ?([kr])(?![a-zA-Z])")
_CALLED = re.compile(r"(?<![a-zA-Z\\])C *\( *(\d{1,4}|[a-z](?: *[-+] *\d)?) *, *(\d{1,4}|[a-z](?: *[-+] *\d)?) *\)")
_NUMBERS = re.compile(r"[a-z\d+\- ]+")
_MODULO_WORD = re.compile(r"(?<![a-zA-Z\\])mod(?:ulo)?(?![a-zA-Z])")
_MODULUS = re.compile(r"\( *\\bmod *\{? *(\w{1,9}) *\}? *\)")
_REMAINDER = re.compile(r"(-?\d{1,40}) *\\bmod *\{? *(\d{1,40}) *\}?")
_ODD = re.compile(r"\( *2 *([a-z]) *- *1 *\) *!!(?!!)")
_EVEN = re.compile(r"\( *2 *([a-z]) *\) *!!(?!!)")
_DOUBLE_FACTORIAL = re.compile(r"(?<![\w.!])(\d{1,3}) *!!(?!!)")


def counted(text: str) -> str:
    """The text with its numbers of combinations as binomials, and with what is left modulo a number worked out."""
    if "C" in text or "A" in text or "P" in text:
        text = _UNDER_OVER.sub(lambda m: _chosen(m, m[1] or m[2], m[3] or m[4], m[5] or m[6]), text)
        text = _OVER_UNDER.sub(lambda m: _chosen(m, m[1] or m[2], m[5] or m[6], m[3] or m[4]), text)
        text = _BEFORE.sub(lambda m: _chosen(m, m[3] or m[4], m[1] or m[2], m[5] or m[6]), text)
        text = _INLINE.sub(lambda m: _chosen(m, m[2], m[1], m[3]), text)
        text = _NAMED.sub(r"\\binom{n}{\1}", text)
        text = _CALLED.sub(lambda m: _chosen(m, "C", m[1], m[2]), text)
    if "mod" in text:
        text = _MODULUS.sub(r"\\pmod{\1}", _MODULO_WORD.sub(r"\\bmod ", text))
        whole = _REMAINDER.fullmatch(text.strip())
        if whole and int(whole[2]):
            text = str(int(whole[1]) % int(whole[2]))
    if "!!" in text:
        text = _EVEN.sub(r"(2^{\1} \1!)", _ODD.sub(r"\\frac{(2\1)!}{2^{\1} \1!}", text))
        text = _DOUBLE_FACTORIAL.sub(lambda m: _doubled(int(m[1])), text)
    return text


def _chosen(found: re.Match, letter: str, above: str, below: str) -> str:
    above, below = above.strip(), below.strip()
    if not (_NUMBERS.fullmatch(above) and _NUMBERS.fullmatch(below)):
        return found[0]
    numbers = above.isdigit() and below.isdigit()
    if (numbers and int(below) > int(above)) or (not numbers and letter != "C"):
        return found[0]
    if letter == "C":
        return rf"\binom{{{above}}}{{{below}}}"
    return rf"\frac{{{above}!}}{{({above}-{below})!}}"


def _doubled(number: int) -> str:
    """7!! is 7 times 5 times 3."""
    value = 1
    for factor in range(number, 1, -2):
        value *= factor
    return str(value)
