"""What a step states, and whether a rewrite keeps it and adds nothing."""

import pytest

from astro.tasks.math.rewrite_check import adds, formulas_of, keeps, named_step, numbers_of

NUMBERS = [
    ("Step 12: $x = 5$ or $1{,}000$ and 2.50.", {"5", "1000", "2.50"}),  # the step's own label is no number
    ("as in Step 3, we get $7$", {"7"}),
    # a minus belongs to its number, unless it subtracts
    ("$x = -3$", {"-3"}),
    ("$\\frac{-1}{2}$ and $(-4, 5)$", {"-1", "2", "-4", "5"}),
    ("$5 - 3$, $x - 3$ and $7-3$", {"5", "3", "7"}),
    ("the value is $-8$, and −9 too", {"-8", "-9"}),
    ("no number", set()),
]


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_numbers(text, expected):
    assert numbers_of(text) == expected


FORMULAS = [
    (r"So $2x + 3 = 17$ and \(y=\dfrac{1}{2}\).", {"2x+3=17", r"y=\frac12"}),
    ("Thus 3 + 4 = 7 in all.", {"3+4=7"}),  # in prose
    (r"It costs \$5 and \$7 more.", set()),  # no formula between two prices
    ("$x$ is known", set()),  # a letter says little
]


@pytest.mark.parametrize(("text", "expected"), FORMULAS)
def test_formulas(text, expected):
    assert formulas_of(text) == expected


STEP = r"Step 2: Subtracting $3$ from both sides gives $2x = 14$, so $x = 7$."
KEEPS = [
    # step, rewrite, kept
    (STEP, "Let's take $3$ away from both sides: that leaves $2x = 14$, which means $x = 7$.", True),
    (STEP, r"Now \(2x=14\) once the $3$ is gone, and half of that is $x=7$.", True),  # other delimiters and spaces
    (STEP, "Subtracting $3$ gives $2x = 14$, so $x$ is $7$.", True),  # one formula of two in words
    (STEP, "Subtracting $3$ gives $2x = 15$, so $x = 7$.", False),  # another number
    (STEP, "Subtracting from both sides gives $2x = 14$, so $x = 7$.", False),  # a number is gone
    (STEP, "With $3$, $2$, $14$ and $7$ we see what the unknown is.", False),  # the numbers alone
    ("So $x = -7$ or $y = -2$.", "So $x = 7$ or $y = -2$.", False),  # a sign is gone
    (
        "The two triangles are congruent by symmetry.",
        "By symmetry, we see that both triangles must be congruent.",
        True,
    ),
    ("The two triangles are congruent by symmetry.", "Let's move on.", False),  # words only, and they are gone
    ("So it is.", "Indeed.", True),  # nothing to keep
    # as instruct models write
    (
        "## Step 3: Calculate the area\nThe area is $A = \\frac{1}{2} \\cdot 6 \\cdot 8 = 24$ square units.",
        "Now the area of the triangle is given by $A = \\frac{1}{2} \\cdot 6 \\cdot 8$, which works out to $24$ square units.",
        True,
    ),
    (
        "Step 2: Use the quadratic formula\n$x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$ with $a = 1$, $b = -5$, $c = 6$.",
        "We can turn to the quadratic formula, \\(x=\\dfrac{-b\\pm\\sqrt{b^2-4ac}}{2a}\\). Here, $a = 1$, $b = -5$ and $c = 6$.",
        True,
    ),
    (
        "Step 4: Simplify\n\\[ \\frac{12}{16} = \\frac{3}{4} \\]",
        "This fraction is not in lowest terms yet: dividing out gives \\[\\frac{12}{16}=\\frac34.\\]",
        True,
    ),
    ("There are $26^3 \\cdot 10^4$ plates.", "So we have $26^3 \\cdot 10^4$ different license plates in all.", True),
    ("There are $26^3 \\cdot 10^4$ plates.", "So we have $26^4 \\cdot 10^3$ different license plates in all.", False),
]


@pytest.mark.parametrize(("step", "rewrite", "kept"), KEEPS)
def test_what_a_rewrite_must_keep(step, rewrite, kept):
    assert keeps(step, rewrite) is kept


SOURCES = ["Twice a number and $3$ is $17$.", "Let it be $x$: $2x + 3 = 17$.", "$A = 3 \\cdot 4 = 12$", "$y = -5$"]
ADDS = [
    ("So $2x + 3 = 17$ for our number.", False),
    ("Turned round, $17 = 2x + 3$.", False),
    ("The area is $A = 12$.", False),  # over what stands between
    ("The $5$ is negative.", False),  # a number without its sign
    ("As Step 9 says.", False),
    ("Then $2x = 17$.", True),  # both sides are known, but nobody set them equal
    ("Then $12 = 17$.", True),
    ("It must be $8$.", True),
    ("$3 + 4 = 7$", True),
]


@pytest.mark.parametrize(("text", "added"), ADDS)
def test_what_a_rewrite_must_not_add(text, added):
    assert adds(text, SOURCES) is added


STEPS = [
    "Step 1: Let the number be $x$. Then $2x + 3 = 17$.",
    "Step 2: From $2x + 3 = 17$ we subtract $3$, which gives $2x = 14$.",
    "Step 3: Half of it is $x = 7$.",
    "We look at the parity of both sides instead.",
]
NAMES = [
    ("the equation $2x + 3 = 17$.", 0),  # of two that have it the one that has it first
    ("subtracted $3$ to get $2x = 14$.", 1),
    ("Step 3.", 2),
    ("looked at the parity of the sides", 3),
    ("something good.", None),
    ("$99$", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), NAMES)
def test_which_step_a_sentence_names(text, expected):
    assert named_step(text, STEPS) == expected
