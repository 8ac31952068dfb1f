"""Inequalities of one variable as the sets that they describe."""

from astro.verify.parse import Value, is_name

_INFINITY = Value("formula", r"\infty")
_MINUS_INFINITY = Value("formula", r"-\infty")
_BELOW, _ABOVE = ("<", r"\le"), (">", r"\ge")


def turned(sign: str) -> str:
    """The sign with its sides exchanged."""
    return {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}.get(sign, sign)


def variable(relation: Value) -> str | None:
    """The one variable that an inequality bounds; None: that is not what it does."""
    names = [
        i.text
        for i in relation.items
        if i.kind == "formula" and is_name(i.text) and r"\infty" not in i.text and r"\pi" not in i.text
    ]
    return names[0] if len(names) == 1 else None


def solution_set(relation: Value) -> Value | None:
    """The set that an inequality of one bare variable describes: -2 < x <= 7 is (-2, 7]. None: it is not of that form.

    Also of lists of such, as in "x < 1 or x > 2": their union.
    """
    if relation.kind == "list":
        sets = [solution_set(item) for item in relation.items]
        if not all(sets) or len({variable(item) for item in relation.items}) != 1:
            return None
        return Value("union", r" \cup ".join(s.text for s in sets if s), tuple(s for s in sets if s))
    if relation.kind != "relation" or variable(relation) is None:
        return None
    items, signs = relation.items, relation.signs
    if signs == (r"\in",):
        return items[1]
    if signs == (r"\ne",):
        edge = items[1] if items[0].text == variable(relation) else items[0]
        parts = [
            Value("bracket", f"(-\\infty, {edge.text})", (_MINUS_INFINITY, edge), signs=("(", ")")),
            Value("bracket", f"({edge.text}, \\infty)", (edge, _INFINITY), signs=("(", ")")),
        ]
        return Value("union", " \\cup ".join(p.text for p in parts), tuple(parts))
    if not (set(signs) <= set(_BELOW) or set(signs) <= set(_ABOVE)):
        return None
    if signs[0] in _ABOVE:
        items, signs = items[::-1], tuple(turned(s) for s in signs[::-1])
    at = next(i for i, item in enumerate(items) if item.text == variable(relation))
    if len(items) == 3 and at == 1:
        low, high, opens, closes = items[0], items[2], signs[0] == "<", signs[1] == "<"
    elif len(items) == 2 and at == 0:
        low, high, opens, closes = _MINUS_INFINITY, items[1], True, signs[0] == "<"
    elif len(items) == 2:
        low, high, opens, closes = items[0], _INFINITY, signs[0] == "<", True
    else:
        return None
    brackets = ("(" if opens else "[", ")" if closes else "]")
    return Value("bracket", f"{brackets[0]}{low.text}, {high.text}{brackets[1]}", (low, high), signs=brackets)
