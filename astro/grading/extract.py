r"""What a text gives as its answer.

`extract`: of a whole response, the last \boxed{...} after the reasoning. With the reading `box` no box is no answer: in training
a model is asked to box its answer, and a guess at what else it may have meant would reward texts that only mention the right
number. With `box_or_statement` a response that has no box at all may state its answer ("The answer is 5.", "#### 5", "**5**"
alone at its end); the last such statement counts, and a number that is only mentioned does not.
`bare`: of a text that is said to be an answer already, without a sentence around it ("The answer is $5$.").
"""

import re
from collections import deque

from astro.grading.brackets import Malformed
from astro.grading.languages import ANNOUNCED, western, western_answer
from astro.grading.last_sentence import concluded, conclusion
from astro.grading.sentences import DENIED, FIGURE, MATH, NUMBER, SAID_LAST, bold_figure, formulas_in_row
from astro.grading.trailing_text import declares
from astro.grading.units import KNOWN, SCALES, singular
from schemas.records import Extraction
from schemas.run import Reading

_END_OF_THOUGHT = re.compile(
    r"</(?:think|thinking|thought|reasoning)>|<\|end_of_thought\|>|\[/THINK\]|◁/think▷", re.IGNORECASE
)
_BEGIN_OF_THOUGHT = re.compile(
    r"<(?:think|thinking|thought|reasoning)>|<\|begin_of_thought\|>|\[THINK\]|◁think▷", re.IGNORECASE
)
_BOX = re.compile(r"\\(boxed|fbox|framebox)(?![a-zA-Z])\s*(\{|[^\s${}\\,.;]+)?|\\.|[{}]", re.DOTALL)
_DOUBLED = re.compile(r"(?<!\\)\\\\(?=(?:boxed|fbox)\b)")
"""Of an answer that was escaped once too often."""
_BETWEEN = re.compile(r"(?:\s|\$|\\[()\[\],;]|\\q?quad|(\\text\s*\{\s*(?:and|or)\s*\}|\band\b|\bor\b|,|&))*", re.DOTALL)
MAX_JOINED = 50
"""Boxes that stand in one row, as in "\\boxed{1} and \\boxed{2}"."""


def extract(response: str, reading: Reading = "box") -> str | None:
    r"""The answer of a whole response: what its last \boxed{...} after the reasoning holds.

    None: there is no box, the last one is empty or never closed (an earlier one does not stand in for it), or the response ends
    inside its thoughts. Boxes in a row ("\boxed{-2} and \boxed{1}") are one answer of several values.
    With `box_or_statement`, of a response without any box: what it states last as its answer.
    """
    return found_in(response, reading)[0]


def found_in(response: str, reading: Reading) -> tuple[str | None, Extraction]:
    """The answer of a whole response as in `extract`, and where it stands."""
    try:
        text = after_thoughts(response)
        answer = boxed(text)
        if answer is not None:
            return answer, "box"
        answer = stated(text) if reading == "box_or_statement" else None
    except Malformed:
        return None, "none"
    return (None, "none") if answer is None else (answer, "statement")


def after_thoughts(response: str) -> str:
    """What follows the last end of a thought; the whole response where there is none.

    Raises:
        Malformed: a thought was begun and never ended.
    """
    start = 0
    for found in _END_OF_THOUGHT.finditer(response):
        start = found.end()
    if _BEGIN_OF_THOUGHT.search(response, start):
        raise Malformed("unfinished thought")
    return response[start:]


def boxed(text: str) -> str | None:
    """What the last box holds; None: there is no box.

    Raises:
        Malformed: the last box is empty or never closed.
    """
    boxes = _boxes(text)
    if boxes is None:
        return None
    start, end, content = boxes[-1]
    contents, begin = [content.strip()], start
    for start, end, content in reversed(boxes[:-1][-MAX_JOINED:]):
        between = _BETWEEN.fullmatch(text, end, begin)
        if not between or between.group(1) is None:
            break
        if content.strip() not in contents:
            contents.insert(0, content.strip())
        begin = start
    answer = ", ".join(contents)
    if not all(contents):
        raise Malformed("empty box")
    return answer


def _boxes(text: str) -> list[tuple[int, int, str]] | None:
    """(start, end, content) of the outermost boxes that are closed; None: there is none. One pass, whatever the nesting.

    Raises:
        Malformed: the box that begins last is not closed.
    """
    text = _DOUBLED.sub(r"\\", text)
    closed: list[tuple[int, int, str]] = []
    stack: list[tuple[int, int] | None] = []  # of each open brace: (start of its box, of its content), or None: no box
    last, last_closed = -1, False
    for found in _BOX.finditer(text):
        sign = found.group()
        if found.group(1):
            last, last_closed = found.start(), False
            if found.group(2) == "{":
                stack.append((last, found.end()))
            elif found.group(2):  # \boxed 5
                closed.append((last, found.end(), found.group(2)))
                last_closed = True
        elif sign == "{":
            stack.append(None)
        elif sign == "}" and stack:
            box = stack.pop()
            if box:
                while closed and closed[-1][0] > box[0]:  # inside this one
                    closed.pop()
                closed.append((box[0], found.end(), _unboxed(text[box[1] : found.start()])))
                last_closed = last_closed or box[0] == last
    if last < 0:
        return None
    if not last_closed:
        raise Malformed("the last box is not closed")
    return closed


def _unboxed(content: str) -> str:
    """The content of a box without boxes inside it."""
    return re.sub(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}", r"\1", content) if "box" in content else content


# --- sentences around an answer ----------------------------------------------------------------------------------------

_ADVERB = r"(?:given by|equal to|thus|therefore|then|clearly|obviously|simply|just|exactly|indeed|hence)?"
_ANNOUNCED = re.compile(
    rf"\b(?:answers?|solution|result)\b(?:[^.:=$\\\n]{{0,60}}?\b(?:is|are)\b\s*{_ADVERB}\s*:?|\s*:|\s*=)\s*"
    rf"|\b(?:answer|solution)\b[\s*]*(?=\$|\\\(|\\\[)|{ANNOUNCED}",
    re.IGNORECASE,
)
_PROSE = re.compile(r"(?![A-Z]{2,3}(?![A-Za-z]))[A-Za-z']{2,}")
_TEXT_BEFORE = re.compile(
    r"^\s*\$?\s*\\text\s*\{[^{}]*(?:\b(?:is|are)\b[\s:]*|\banswer\s*:\s*)\}(?=.*\w)", re.DOTALL | re.IGNORECASE
)
_MEASURED = re.compile(r"^([\d,. ]*\d) *(?:mm|cm|m|km|in|ft)[²³]$")
_TAG = re.compile(r"</?(?:answer|final_answer)>")
_FINAL = re.compile(r"\bfinal answer\b\s*(?:is\b\s*:?|:(?!\s*the final))\s*", re.IGNORECASE)
_CONCLUDES = re.compile(r"(?:so|thus|therefore|hence|there|we|he|she|it|they)\b", re.IGNORECASE)
_NO_PLAIN_NUMBER = re.compile(r"[\\^=<>+*/%(|$€£:]|[a-zA-Z]\d|\d[a-zA-Z]")
_ADVERBIAL = re.compile(
    r"(?<=[\w}$%]), (?:altogether|in total|in all|overall|as (?:required|desired|expected|needed)|respectively)\Z",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r",\s+(?:so|since|because|as|which|thus|hence|therefore|and (?:we|this|so))\b", re.IGNORECASE)
_HEDGED = re.compile(r"\b(?:might|may|maybe|perhaps|possibly|could)(?:\s+\w+)?\s+(?:be|is|are)\s*$", re.IGNORECASE)
_YES_NO = re.compile(r"\s*(?:yes|no|true|false)\s*[,.;:-]", re.IGNORECASE)
_HOPE = re.compile(r"\.?\s+I hope\b.*", re.DOTALL)
_MARKUP = re.compile(r"<\|[a-z_]+\|>.*", re.DOTALL)
_END_OF_SENTENCE = re.compile(r"\.(?:\s|$|\*\*|(?=[\u3400-\u9fff]))|\n|\s+I hope\b", re.IGNORECASE)
MIN_WORDS = 2
"""Words outside of mathematics that make a text a sentence."""

# what states a final answer in a response that has no box
_STATED = re.compile(
    r"(?P<rule>^[ \t]*\#{4}[ \t]*(?=[-+−$€£\d\\(\[{.]|\S[^\n]*\s*\Z))"
    r"|(?P<heading>(?:\bfinal\s+answer\b|^[#*_ \t]*answer\b)[*_#: \t]*\n[\s*_]*)"
    r'|(?P<field>"(?:final_)?answer"\s*:\s*"?)'
    r"|(?P<before>(?:^|[.,;]\s+|\b(?:so|thus|hence|therefore)\s+)(?P<value>\$[^$\n]{1,100}\$|-?[$€£]?\d[\d,./]{0,40}%?)"
    r"\s+is\s+(?:the|our|my)\s+(?:(?:final|correct|required)\s+)*answer\b)"
    r"|(?P<tag><(?:final_)?answer>\s*)"
    r"|(?P<bold>^[ \t]*\*\*(?=(?:[a-z]\s*=\s*)?(?:[$€£\\(\[{|]|[-+−]?\.?\d)[^*\n]{0,200}\*\*[.。!]?\s*\Z))"
    r"|(?P<chosen>\b(?:option|choice|answer)\s+(?P<letter>\(?[A-J]\)?)\s+is\s+(?:the\s+)?(?:correct|right)\b)"
    rf"|(?P<words>\b(?:answers?|(?:correct|right|best)\s+(?:option|choice)|ans\.?(?=\s*[:=]))(?![a-z])(?:[^.:=$\\\n?]{{0,60}}?\b(?:is|are)\b\s*{_ADVERB}\s*:?|[\s*_]*:|\s*=)[\s*_]*"
    rf"|{ANNOUNCED})",
    re.IGNORECASE | re.MULTILINE,
)
_ONLY_SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|assume|assuming|says?|said|states?|claims?|given|told|check|verify|think|guess|maybe|perhaps|could|might|may|unless|what|until)\b"
    r"[^.,;:\n]*$"
    r"|\b(?:an?|gold|reference|expected|wrong|incorrect|possible|previous|first|student's|guessed)\s+$",
    re.IGNORECASE,
)
"""Before the words: they state nothing. "An answer" is one of several."""
_IN_TEXT = re.compile(r"\\text(?:bf|rm|it)?\s*\{([^{}]*\banswer\b[^{}]*)\}", re.IGNORECASE)
_DENIED_WORDS = re.compile(r"\b(?:is|are)\s*(?:not|n't)\b|n't\b", re.IGNORECASE)
_TAKEN_BACK = re.compile(
    r"[.\n!?]\s*(?:(?:but\s+)?(?:wait|hmm+|actually|no[,.]|oops|sorry)\b|(?:however|but)\b[^\n]{0,200}?"
    r"\b(?:wrong|incorrect|mistakes?|errors?|forgot|overcount\w*|counts?|counted|double|should|must|needs?|divide|subtract)\b)"
    r"|[.\n!?]\s*(?:不对|错|等等|等一下|更正|应[为该]|但|然而|重新)",
    re.IGNORECASE,
)
_BETWEEN_TWO = re.compile(r"\b(?:or|and|nor)\b", re.IGNORECASE)
MAX_STATEMENTS = 100
"""Statements, from the last one back, that are looked at."""
MAX_STATED = 2000
"""Characters of a response's end in which a final statement is looked for behind the last line that announces one."""


def stated(text: str) -> str | None:
    """The last statement of a final answer in a text without a box; None: there is none.

    Raises:
        Malformed: it is taken back, denied, one of two alternatives, or a later conclusion says something else.
    """
    text = _IN_TEXT.sub(r" \1 ", _MARKUP.sub("", western(text, whole=False))).rstrip()
    found, last = None, None
    for found in deque(_STATED.finditer(text), maxlen=MAX_STATEMENTS):
        line = text.rfind("\n", 0, found.start()) + 1
        if found.group("words") and _ONLY_SUPPOSED.search(text, max(line, found.start() - 200), found.start()):
            continue
        between = (last.end(), found.start()) if last else (0, 0)
        if last and not _END_OF_SENTENCE.search(text, *between) and _BETWEEN_TWO.search(text, *between):
            raise Malformed("two answers in one sentence")
        last = found
    if last is None:
        return (conclusion(text) or "").strip() or None
    if last.group("words") and _DENIED_WORDS.search(last.group("words")):
        raise Malformed("denied")
    if _TAKEN_BACK.search(text, last.end()):
        raise Malformed("taken back")
    following = text[last.end() : last.end() + MAX_STATED]
    if last.group("field"):
        following = re.split(r'["}\n]', following, maxsplit=1)[0]
    said = last.group("value") or last.group("letter") or _after(following)
    if re.match(r"\s*[\u3400-\u9fff]", said):  # 答：小明有42本书。
        said = concluded(said + "。") or said
    said = re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", said)
    if not said.strip(" .*_"):
        raise Malformed("nothing is stated")
    end = conclusion(text[last.end() :])
    if end and end.strip(" $") not in said:
        raise Malformed("concludes something else")
    return said.strip()


def _after(text: str) -> str:
    """What an announcement announces: formulas in a row, or all to the end of the sentence."""
    text = re.split(r"</(?:final_)?answer>", re.sub(r'\A\\?"', "", _MARKUP.sub("", text).lstrip("*_: \n")))[0]
    row = formulas_in_row(text, at_start=True)
    return _first_sentence(text) if row is None else row


def _first_sentence(text: str) -> str:
    """To its end, or to where it goes on to say why."""
    first = _END_OF_SENTENCE.split(text, maxsplit=1)[0].strip() or text
    return _ADVERBIAL.sub("", _GOES_ON.split(first, maxsplit=1)[0]) or first


def bare(text: str) -> str:
    """An answer without the sentence around it.

    Raises:
        Malformed: a box that is not closed, or a sentence with several formulas of which none is announced as the answer.
    """
    inside = boxed(text)
    if inside is not None:
        after = _FINAL.search(text, max(text.rfind(r"\boxed"), text.rfind(r"\fbox")))
        if not after:
            return western_answer(inside)
        text = text[after.start() :]  # said once more after the box, and it is the last word that counts
    text = _TEXT_BEFORE.sub("", _TAG.sub("", western_answer(text)))
    announced = list(_ANNOUNCED.finditer(text))
    final = list(_FINAL.finditer(text)) or announced
    if announced:
        if len(final) > 1 and _BETWEEN_TWO.search(text, final[-2].end(), final[-1].start()):
            raise Malformed("two answers in one sentence")
        text = re.sub(r'\A\\?"', "", _MARKUP.sub("", text[final[-1].end() :]).lstrip("*: \n"))
        first = _first_sentence(text)
        if declares(first):
            return first.replace("$", "")
        row = formulas_in_row(text, at_start=True)
        if row is not None:
            return row
        text = first
    if not announced and FIGURE.match(text):
        text = _GOES_ON.split(text, maxsplit=1)[0]
    if not _is_sentence(text):
        return bold_figure(text) or text
    if declares(text):
        return text.replace("$", "")
    if _YES_NO.match(text):
        return text
    text = _HOPE.sub("", _MARKUP.sub("", text)).rstrip(" .")
    bold = bold_figure(text)
    if bold is not None:
        return bold
    only = _only_number(text, concluded=bool(announced))
    if only is not None:
        return only
    row = formulas_in_row(text, at_start=False)
    if row is not None:
        return row
    if announced and FIGURE.match(text):  # "34 if x is 5"
        return text
    said = SAID_LAST.fullmatch(text)
    if said and _HEDGED.search(text[: said.start(1)]):
        return text
    return _MEASURED.sub(r"\1", said.group(1)) if said and not _is_sentence(said.group(1)) else text


def _only_number(text: str, *, concluded: bool) -> str | None:
    """The one number of the last sentence, as in "So there are 12 of them". None: there is none, or it is denied."""
    text = re.split(r"(?<=[.!?])\s+", text.strip())[-1]
    if SAID_LAST.fullmatch(text) and re.search(r"[$\\=]", text):
        return None
    if not concluded and not _CONCLUDES.match(text):  # but "Friday, June 20" is no sentence
        return None
    found = list(NUMBER.finditer(text))
    if len(found) != 1 or not found[0].start() or DENIED.search(text) or _NO_PLAIN_NUMBER.search(text):
        return None
    unit = re.match(r" ([a-zA-Z]+)", text[found[0].end() :])
    known = unit and (unit.group(1).lower() in SCALES or singular(unit.group(1).lower()) in KNOWN)
    return found[0].group() + (unit.group() if unit and known else "")


def _is_sentence(text: str) -> bool:
    """Has it words outside of its mathematics?"""
    outside = re.sub(r"\\[a-zA-Z]+\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", MATH.sub(" ", text))
    return len(_PROSE.findall(outside)) >= MIN_WORDS
