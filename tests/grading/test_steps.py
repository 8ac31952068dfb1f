"""Checks of the equalities in a step. What matters most: nothing right is called false."""

import random
import time

import pytest

from astro.grading.steps import check_steps, check_text, compare, exact_value
from schemas.records import StepChecks

# step, (true, false, not checkable)
CASES = [
    # arithmetic, in prose and in LaTeX
    ("2+3=5", (1, 0, 0)),
    ("2+3=6", (0, 1, 0)),
    (r"3 \cdot 4 = 12", (1, 0, 0)),
    (r"\frac{1}{2}+\frac{1}{3}=\frac{5}{6}", (1, 0, 0)),
    (r"\frac{1}{2}+\frac{1}{3}=\frac{2}{5}", (0, 1, 0)),
    (r"The total is $5 \times 4 = 21$ dollars.", (0, 1, 0)),
    (r"Step 3: We get \(8/2=4\) and \[7 - 10 = -3\]", (2, 0, 0)),
    ("So 1 + 2 = 3 and 3 + 4 = 8.", (1, 1, 0)),
    ("(3+4)*2=14", (1, 0, 0)),
    ("3 x 4 = 12", (1, 0, 0)),
    (r"$1{,}000 + 2{,}000 = 3{,}000$", (1, 0, 0)),
    ("1,000 + 2,000 = 3,000", (1, 0, 0)),
    (r"$0.1+0.2=0.3$", (1, 0, 0)),
    (r"$\$5.25 + \$3.75 = \$9.00$", (1, 0, 0)),
    (r"$2^{10} = 1024$, $5! = 120$, $\binom{5}{2} = 10$, $\sqrt[3]{27} = 3$, $|3-7| = 4$", (5, 0, 0)),
    (r"$\sqrt{12} = 2\sqrt{3}$ and $\sqrt{3+2\sqrt{2}} = 1+\sqrt{2}$", (2, 0, 0)),
    (r"$\sqrt{12} = 3\sqrt{2}$", (0, 1, 0)),
    # chains, and lines of an alignment that go on from the one before
    (r"$12 \cdot 5 = 60 = 30 \cdot 2$", (2, 0, 0)),
    (r"\begin{align*} 2(3+4) &= 2 \cdot 7 \\ &= 15 \end{align*}", (1, 1, 0)),
    (r"$3+5=8<9=4+5$", (2, 0, 0)),
    # GSM8K's annotations
    ("She sold 48/2 = <<48/2=24>>24 clips.", (2, 0, 0)),
    # identities hold for all values; an equation to solve and a definition are not checkable
    ("x^2-1=(x-1)(x+1)", (1, 0, 0)),
    (r"$\frac{x^2-1}{x-1}=x+1$", (1, 0, 0)),
    (r"$x = 5$", (0, 0, 1)),
    (r"$2x+3=7$", (0, 0, 1)),
    (r"$(x+1)^2 = x^2+1$", (0, 0, 1)),
    # unless the text says that it only unfolds one side
    (r"Expanding, $(x+1)^2 = x^2+1$", (0, 1, 0)),
    (r"Expanding both sides of $(x+1)^2 = x^2+1$", (0, 0, 1)),
    (r"Factoring gives $x^2-5x+6=(x-2)(x-3)=0$.", (1, 0, 1)),
    # rounded, or near
    (r"$\sqrt{2} = 1.414$", (0, 0, 1)),
    (r"$\sqrt{2} \approx 1.414$", (0, 0, 0)),
    ("10 / 3 = 3.33", (0, 0, 1)),
    (r"$\pi \cdot 3^2 = 28.27$", (0, 0, 1)),
    (r"17 / 5 = 3", (0, 0, 1)),
    # more than one reading
    (r"$3\frac{1}{2} = \frac{7}{2}$ and $3\frac{1}{2} = \frac{3}{2}$", (2, 0, 0)),
    (r"$4 \frac{1}{2} + 2 \frac{1}{2} = 7$", (1, 0, 0)),
    (r"$3\frac{1}{2} = \frac{9}{2}$", (0, 0, 1)),
    ("2 1/2 + 1 1/2 = 4", (0, 0, 1)),
    (r"$6/2(1+2) = 1$", (0, 0, 1)),
    (r"$-2^2=4$", (0, 0, 1)),
    (r"$100 - 30\% = 70$", (0, 0, 1)),
    # another arithmetic
    (r"$12_5 = 7$", (0, 0, 1)),
    (r"$7^2 = 49 = 4$ modulo 5", (1, 0, 1)),
    (r"17 / 5 = 3 remainder 2", (0, 0, 0)),
    # denied, asked, contradicted
    ("2 + 2 = 5?", (0, 0, 1)),
    (r"This gives $3 = 4 + 1$, a contradiction.", (0, 0, 1)),
    # parts of something larger
    ("half of 3 + 7 = 5", (0, 0, 0)),
    ("The sum of 2 and 3 + 4 = 9.", (0, 0, 0)),
    ("x + 2 + 3 = 5", (0, 0, 1)),
    ("3 apples + 2 apples = 5 apples", (0, 0, 0)),
    ("- 2 + 3 = 5", (1, 0, 0)),  # the dash is a bullet
    ("1) 3 + 4 = 7", (1, 0, 0)),
    (r"**Step 2:** 5 * 6 = 30", (1, 0, 0)),
    # notation that is not read
    (r"$1+2+\cdots+10=55$", (0, 0, 1)),
    (r"$\sin 30^\circ = \frac{1}{2}$, $\log_2 8 = 3$, $f(2) = 5$", (0, 0, 3)),
    (r"$x = \frac{-5 \pm 1}{2}$, $(1,2)+(3,4)=(4,6)$, $3:4 = 6:8$", (0, 0, 3)),
    (r"$1 \text{ km} = 1000 \text{ m}$", (0, 0, 1)),
    (r"$\frac{1}{0} = 5$, $0^0 = 1$", (0, 0, 2)),
    # nothing to check
    ("", (0, 0, 0)),
    ("The answer is 5.", (0, 0, 0)),
    ("=" * 50, (0, 0, 0)),
]


@pytest.mark.parametrize(("step", "expected"), CASES)
def test_checks(step, expected):
    assert tuple(check_text(step)) == expected


SOLUTIONS = [
    # right lines as solutions write them: (line, equalities that are seen to be true)
    (r"We have $\det (\mathbf{A} \mathbf{B}) = (\det \mathbf{A})(\det \mathbf{B}) = (2)(12) = \boxed{24}.$", 0),
    (r"\begin{align*} 30n&=480\\ \Rightarrow\qquad n&=480/30=\boxed{16} \end{align*}", 0),
    (r"The area is $\frac{1}{2}bh = \frac{1}{2} \cdot 6 \cdot 8 = 24$ square units.", 1),
    (r"By the Pythagorean theorem, $AC = \sqrt{AB^2 + BC^2} = \sqrt{9 + 16} = 5$.", 1),
    (r"There are $\binom{10}{3} = \frac{10 \cdot 9 \cdot 8}{3 \cdot 2 \cdot 1} = 120$ ways.", 2),
    (r"Since $i^2 = -1$, we have $(1+i)^2 = 1 + 2i + i^2 = 2i$.", 1),
    (r"The sum is $1 + 2 + \dots + 100 = \frac{100 \cdot 101}{2} = 5050$.", 1),
    (r"Note that $f(2) = 3(2) - 1 = 5$, so $f(f(2)) = f(5) = 14$.", 1),
    (r"Convert: $1011_2 = 8 + 2 + 1 = 11$.", 1),
    (r"$\text{Area} = \text{length} \times \text{width} = 3 \times 4 = 12$", 1),
    ("Distance = rate * time = 60 * 2 = 120 miles.", 1),
    ("It takes 2 hours 30 minutes = 150 minutes.", 0),
    ("Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day. She makes 9 * 2 = $<<9*2=18>>18 every day.", 3),
    (r"$\angle A + \angle B + \angle C = 180^\circ$, $180 - 50 - 60 = 70$.", 1),
    ("5 dozen = 60 eggs; 3 feet = 36 inches; 1 km = 1000 m; 5 cm + 3 cm = 8 cm", 0),
    (r"$10 \equiv 1 \pmod{3}$ so $10^5 = 1^5 = 1$ modulo 3.", 1),
    (r"$a \star b = a^2 + b$, so $2 \star 3 = 7$", 0),
    (r"$\sqrt{16} = \pm 4$, $e^{i\pi} = -1$, $2^{0.5}=1.41$, $\frac{2}{3} = 0.67$", 0),
    (r"Then $a_1 = 1, a_2 = 3, a_3 = 7$, and $0.\overline{3} = \frac13$.", 0),
    ("Let A = 1, B = 2, C = 3. Question 5 = 6 on page 3 = 4 more.", 0),
]


@pytest.mark.parametrize(("line", "least"), SOLUTIONS)
def test_nothing_right_is_called_false(line, least):
    true, false, _ = check_text(line)
    assert false == 0
    assert true >= least


@pytest.mark.parametrize("context", ["Let $a * b = a^2 + b$.", "Find 3 + 4 in base 6.", "We work modulo 5."])
def test_the_problem_may_redefine_the_signs(context):
    assert check_text("$3 * 4 = 13$") == [0, 1, 0]
    assert check_text("$3 * 4 = 13$", context) == [0, 0, 1]


def test_made_up_sums_and_products_are_told_right_from_wrong():
    """400 lines with a slip in half of them: every slip is found, and nothing else."""
    rng = random.Random(1)
    for number in range(400):
        a, b, c = (rng.randint(1, 60) for _ in range(3))
        sign, word = rng.choice([("+", "+"), ("-", "-"), ("*", r"\cdot")])
        value = {"+": a + b, "-": a - b, "*": a * b}[sign] + c
        slip = rng.choice((-10, -1, 1, 2)) if number % 2 else 0
        line = rng.choice(["Step 1: $({a} {w} {b}) + {c} = {v}$.", "So we have ({a} {s} {b}) + {c} = {v} in all."])
        text = line.format(a=a, b=b, c=c, w=word, s=sign, v=value + slip)
        assert check_text(text) == [int(not slip), int(bool(slip)), 0], text


HOSTILE = [
    "$9^{9^{9^9}} = 1$",
    "$" + "(" * 5000 + "1=1" + ")" * 5000 + "$",
    "=".join(["1+1"] * 20_000),
    "$" + r"\frac{" * 3000 + "1 = 2$",
    "x" * 200_000 + " = 1",
    "$1 = " + "9" * 100_000 + "$",
    "$(x+y+z+w)^{20} (x+y+z+w)^{20} (a+b+c+d)^{20} = x$",
    "\x00 = \x00\u202e1 + 1 = 3",
    "$" + "2^{" * 30 + "2" + "}" * 30 + " = 1$",
    r"$\sqrt{\sqrt{\sqrt{\sqrt{2}}}} = \sqrt[3]{\sqrt{2}+\sqrt{3}+\sqrt{5}}$",
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_step_costs_its_own_limit_only(number):
    began = time.monotonic()
    hostile, plain = check_steps([(HOSTILE[number], ""), ("1 + 1 = 2", "")])
    assert plain == StepChecks(true=1, false=0, unchecked=0)
    assert hostile.true + hostile.false + hostile.unchecked <= 100
    assert time.monotonic() - began < 30


def test_steps_are_answered_in_order():
    steps = [(f"{i} + 1 = {i + 1 + i % 2}", "") for i in range(50)]
    assert [found.false for found in check_steps(steps)] == [i % 2 for i in range(50)]
    assert check_steps([]) == []


VALUES = [
    ("0.5", "1/2"),
    (r"\frac12", "1/2"),
    ("$7$", "7"),
    ("1/3", "1/3"),
    ("x+1", None),
    ("", None),
    ("50%", None),
    (r"\sqrt2", None),
]


@pytest.mark.parametrize(("answer", "value"), VALUES)
def test_exact_values(answer, value):
    assert exact_value(answer) == value


def test_a_side_may_be_read_from_either_end():
    assert compare("(x-1)(x+1)", "x^2-1") == compare("x^2-1", "(x-1)(x+1)") == "true"
    assert compare("5", "2+4") == compare("2+4", "5") == "false"
