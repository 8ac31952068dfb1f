"""Answers in other scripts, written as the rules read them: full-width signs, Chinese words between formulas, announcements.

What these words mean is fixed here; the rules themselves know only their English form.
"""

import re

_WIDE = str.maketrans(
    "０１２３４５６７８９：，。；（）【】［］｛｝＝＋－／＜＞．％！？∶、｜",
    "0123456789:,.;()[][]{}=+-/<>.%!?:,|",
)
_BETWEEN = (
    (re.compile(r"\s*(?:或者|或是|或)\s*"), " or "),
    (re.compile(r"\s*(?:并且|而且|且)\s*"), " and "),
    (re.compile(r"(?<=[\d}a-zA-Z)$\]])\s*(?:和|与|及|以及)\s*(?=[-\d\\a-zA-Z($\[])"), " and "),
    *(
        (re.compile(rf"(?<=[a-zA-Z)}}$])\s*(?:{words})\s*(?=[-\d\\$(])"), sign)
        for words, sign in (
            ("不等于", r" \\ne "),
            ("大于或等于|大于等于|不小于", r" \\ge "),
            ("小于或等于|小于等于|不大于|不超过", r" \\le "),
            ("大于", " > "),
            ("小于", " < "),
        )
    ),
    (re.compile(r"(?:大约|约等于|约为|约)\s*(?=[-\d$\\])"), r" \\approx "),
)
_LEADS = re.compile(
    r"\A\s*(?:(?:一共有?|总共有?|共有|共计|共(?=\s*[\d$\\])|有(?=\s*[\d$\\])|因此|所以|因而|从而|于是|综上所述|综上|故|解得|可得|得到|得|即)[\s,:]*)+(?=.*[\w$\\])",
    re.DOTALL,
)
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

ANNOUNCED = (
    r"(?:最终|最后|正确|标准)?(?:正确选项|答案|答(?=\s*:)|結果|结果|答え|정답|답)\s*(?:应该|应)?(?:选择|选|是|为|為|等于|は|은|는)?\s*:?\s*"
    r"|(?:应选|故选|选择|选)\s*:?\s*(?=\(?[A-J\d])"
    r"|\b(?:ответ|antwort|réponse|reponse|respuesta|resposta|risposta|odpowiedź|cevap)\b"
    r"(?:\s+(?:finale?|correcta?|correcte))?\s*(?::|=|\b(?:est|es|é|è|ist|lautet)\b\s*:?)\s*"
)
"""A pattern of the words that come before an answer; case does not count."""

_UNITS = {
    "毫米": "mm", "厘米": "cm", "分米": "dm", "千米": "km", "公里": "km", "米": "m", "毫克": "mg", "千克": "kg", "公斤": "kg",
    "克": "g", "吨": "t", "秒钟": "s", "秒": "s", "分钟": "min", "小时": "h", "天": "day", "年": "yr", "度": "degree", "升": "L",
    "毫升": "mL", "元": "yuan", "万": "万", "亿": "亿",
}  # fmt: skip
_UNIT_AT_END = re.compile(r"(?<=[\d})%\]a-zA-Z])\s*(平方|立方)?([\u3400-\u9fff]{1,6})$")
_SCALES = {"万": 10**4, "亿": 10**8}
_CHANGES = re.compile(r"[不非没无或至少多大小约近余超前后以倍分之零百千十进制]")
"""In what stands behind a number: it is no unit then."""


_NAMED = re.compile(r"\A\s*(?![^\n]*[不非未否或])[\u4e00-\u9fff]{1,12}(?:为|是|等于|=|:)\s*(?=[-+\d\\$(\[])")
"""面积为 12: what a value is the value of."""
_NUMERAL = re.compile(r"[零〇一二两三四五六七八九十百千]+")
_DIGITS = {s: n for n, s in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}


def _numerals(text: str) -> str:
    """三分之二 as 2/3, 十二 as 12, where nothing else is said."""
    said = text.strip(" .$")
    sign, said = ("-", said[1:]) if said.startswith("负") else ("", said)
    parts = said.split("分之")
    if len(parts) > 2 or not all(_NUMERAL.fullmatch(part) for part in parts):
        return text
    return sign + "/".join(str(_counted(part)) for part in reversed(parts))


def _counted(numeral: str) -> int:
    total, digit = 0, None
    for sign in numeral:
        if sign in _TENS:
            total, digit = total + (1 if digit is None else digit) * _TENS[sign], None
        else:
            digit = (digit or 0) * 10 + _DIGITS[sign]
    return total + (digit or 0)


def western(text: str, *, whole: bool = True) -> str:
    """The text with signs and the words between formulas as the rules know them; unchanged where it is ASCII.

    Args:
        whole: it is one answer: words that lead to it are left out.
    """
    if text.isascii():
        return text
    text = text.translate(_WIDE)
    for pattern, meant in _BETWEEN:
        text = pattern.sub(meant, text)
    return _LEADS.sub("", text) if whole else text


def western_answer(text: str) -> str:
    """The same of an answer alone: also without what its value is named, and with numerals as digits."""
    text = western(text)
    return _numerals(_NAMED.sub("", text)) if CJK.search(text) else text


def split_unit(text: str) -> tuple[str, str | None, int] | None:
    """(text without its unit, the unit, factor) where a unit in Chinese stands at the end; None: there is none."""
    found = None if text.isascii() else _UNIT_AT_END.search(text)
    if not found:
        return None
    power, word = found.groups()
    if word in _SCALES:
        return text[: found.start()], None, _SCALES[word]
    unit = _UNITS.get(word)
    if unit is None and _CHANGES.search(word):
        return None
    if unit and power:
        unit += {"平方": "^2", "立方": "^3"}[power]
    return text[: found.start()], unit or word, 1
