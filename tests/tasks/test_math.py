"""The mathematics task: its text, its grading, and chains read as graphs."""

import itertools
from pathlib import Path

import pytest

from astro.cloning.verbalize import load_phrases
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.inference.engine import Request
from astro.params import load_params
from astro.search import Sample
from astro.tasks import get_task
from astro.tasks.math.solution_text import answer_of, boxes, same_text, split_steps, unboxed, without_label, words_of
from astro.tasks.math.task import Math
from schemas.records import Problem, StepChecks

PHRASES = load_phrases(Path("phrases/math.yaml"))
MATH = Math(PHRASES)
PROBLEM = Problem(
    id="p", task="math", question=r"What is $\frac{1}{2} + 3$?", gold=r"\frac{7}{2}", level=1, chance=None
)
ONE, TWO = r"Step 1: $3 = \frac{6}{2}$.", r"Step 2: The sum is $\boxed{\frac{7}{2}}$."
WRONG = r"Step 2: The sum is $\boxed{\frac{6}{2}}$."


def test_the_task_is_found_by_its_name():
    assert isinstance(get_task("math", PHRASES), Math)


def test_the_prompt_holds_the_question_as_it_is():
    question = r"Is $\{x\}$ {question} or {solution}?"
    prompt = MATH.prompt(PROBLEM.model_copy(update={"question": question}))
    assert prompt.count(question) == 1
    assert r"\boxed{}" in prompt
    asked, sound = MATH.vote_prompt(PROBLEM, [ONE, TWO])
    assert PROBLEM.question in asked
    assert f"{ONE}\n\n{TWO}" in asked
    assert (sound, asked[-1]) == ("yes", ":")


def test_a_final_statement_counts_where_the_task_reads_it():
    said = f"{ONE}\n\nThe answer is $3.5$."
    strict, lenient = get_task("math"), get_task("math", answers="box_or_statement")
    assert strict.grade_many([PROBLEM], [said]) == [(None, "unparseable_prediction")]
    assert lenient.grade_many([PROBLEM], [said]) == [("3.5", "correct")]
    texts = (said, f"{ONE}\n\n{TWO}", ONE, f"{said} \\boxed{{")
    assert [lenient.extraction(text) for text in texts] == ["statement", "box", "none", "none"]
    assert [strict.extraction(text) for text in texts] == ["none", "box", "none", "none"]
    assert get_task("countdown").extraction("answer 5") is None


def test_a_tree_tells_where_the_answer_of_each_completion_stands():
    settings = load_params(Path("params.yaml")).mcts.model_copy(update={"num_simulations": 1, "rollouts_per_child": 3})
    jobs = SearchJobs(settings, "math", 1, answers="box_or_statement")
    ends = itertools.cycle((TWO, "The answer is $3.5$.", "Seven is odd."))
    job = jobs(PROBLEM)[1]
    wanted, trees = next(job), []
    while not trees:
        if isinstance(wanted[0], Request):
            answers = [[Sample(ONE if w.stop else next(ends), -1.0, 9, True) for _ in range(w.n)] for w in wanted]
        else:
            answers = jobs.grade(wanted)
        try:
            wanted = job.send(answers)
        except StopIteration as stop:
            trees.append(stop.value)
    found = {(r.extraction, r.answer, r.verdict) for node in trees[0].nodes for r in node.rollouts}
    assert {extraction for extraction, _, _ in found} == {"box", "statement", "none"}
    assert all((extraction == "none") == (answer is None) for extraction, answer, _ in found)
    assert ("statement", "3.5", "correct") in found


# text, its steps
STEPS = [
    ("a\n\nb", ["a", "b"]),
    ("a\nstill a\n \n\nb\n", ["a\nstill a", "b"]),
    ("Step 1: a\nStep 2: b", ["Step 1: a", "Step 2: b"]),
    ("## Step 1: a\nmore\n## Step 2: b", ["## Step 1: a\nmore", "## Step 2: b"]),
    ("**Step 1:** a\n**Step 2:** b", ["**Step 1:** a", "**Step 2:** b"]),
    ("1. a\n2. b\n3) c", ["1. a", "2. b", "3) c"]),
    ("The roots are\n2. and\n5. in all", ["The roots are\n2. and\n5. in all"]),  # numbers, no numbered steps
    ("", []),
    (" \n\n \n", []),
]


@pytest.mark.parametrize(("text", "steps"), STEPS)
def test_steps_are_paragraphs_or_numbered(text, steps):
    assert split_steps(text) == MATH.split(text) == steps


def test_a_response_is_split_into_the_steps_it_was_made_of():
    response = MATH.response([ONE, TWO])
    assert response == f"{ONE}\n\n{TWO}"
    assert MATH.split(response) == [ONE, TWO]
    assert MATH.response([ONE]) == ONE + "\n\n"
    assert MATH.response([ONE], TWO) == f"{ONE}\n\n{TWO}"
    assert MATH.response([], TWO) == TWO
    assert "\n\n" in MATH.stops


SAME = [
    # two texts, and whether they say the same
    (r"What is $\left( \dfrac{1}{2} \right)$?", r"what  is \( (\frac 12) \)", True),
    ("Find 1,000 + 2, 3.", "find 1000+2,3", True),
    (r"$x^{2} \cdot 3\,y$", r"$x^2 \times 3y$", True),
    (r"5\text{ cm}", r"5 \mathrm{cm}", True),
    ("Jane's − 3", "Janes - 3", True),
    ("a\u200b+\u00a0b", "a + b", True),
    ("1.5", "15", False),
    ("5!", "5", False),
    ("f'(x)", "f(x)", False),
    ("{1,2}", "{12}", False),
    ("计算（12×12）的值。", "计算 $(12 \\times 12)$ 的值", True),
    ("有多少种选法？", "有多少种选法?", True),
    ("若“x＝1”，则……", '若"x=1",则......', True),
    ("求ＡＢ的长：１，０００", "求AB的长:1000", True),
    ("取 3、4 两数", "取3,4两数", True),
    ("从10人中选3人", "从10人中选4人", False),
    ("x + 1", "x - 1", False),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_what_is_layout_and_what_is_not(one, other, same):
    assert (same_text(one) == same_text(other)) == same


def test_words_are_letters_and_numbers():
    assert words_of(r"Let $x_{10} = \frac{1}{2.5}$, then") == ["let", "x", "10", "frac", "1", "2.5", "then"]
    assert words_of("从10人中选3人，有多少种？") == ["从", "10", "人", "中", "选", "3", "人", "有", "多", "少", "种"]
    assert words_of("Évaluer la dérivée, où α > 0; найти x") == [
        "évaluer",
        "la",
        "dérivée",
        "où",
        "α",
        "0",
        "найти",
        "x",
    ]
    assert words_of("りんごが3個") == ["り", "ん", "ご", "が", "3", "個"]


BOXES = [
    (r"a \boxed{1} b \boxed{\frac{1}{2}}", 2, r"a 1 b \frac{1}{2}"),
    (r"\boxed{\boxed{3}}", 1, "{3}"),
    (r"\boxed{3", 0, "{3"),
    (r"\boxed {\{1\}}", 1, r"\{1\}"),
    ("none", 0, "none"),
]


@pytest.mark.parametrize(("text", "count", "without"), BOXES)
def test_boxes(text, count, without):
    assert len(boxes(text)) == count
    assert unboxed(text) == without
    assert "\\boxed" not in unboxed(text)


def test_labels():
    assert [without_label(s) for s in ("Step 12: a", "## Step 3 a", "**Step 1:** a", "Stepping")] == [
        "a",
        "a",
        "a",
        "Stepping",
    ]
    assert MATH.state_key(["x", "Step 3: We  add $3+4$."]) == MATH.state_key(["y", "Step 2. we add $3 + 4$"])


GRADES = [(r"\frac{7}{2}", "correct"), ("3.5", "correct"), ("3", "wrong"), (None, "unparseable_prediction")]


@pytest.mark.parametrize(("answer", "verdict"), GRADES)
def test_grades(answer, verdict):
    assert MATH.grade(PROBLEM, answer) == verdict


def test_many_are_graded_in_order():
    texts = [MATH.response([ONE, TWO]), MATH.response([ONE, WRONG]), ONE, ""]
    found = MATH.grade_many([PROBLEM] * 4, texts)
    assert [verdict for _, verdict in found] == ["correct", "wrong", "unparseable_prediction", "unparseable_prediction"]
    assert [answer for answer, _ in found] == [r"\frac{7}{2}", r"\frac{6}{2}", None, None]
    assert MATH.grade_many([], []) == []


def test_equal_answers_have_one_name():
    assert MATH.canonical("0.50") == MATH.canonical(r"\frac12") == MATH.canonical("1/2")
    assert MATH.canonical(r"\left(1, 2\right)") == MATH.canonical("(1,2)")
    assert MATH.canonical("2") != MATH.canonical("3")


CHECKED = [
    # steps, whether the solution may be learnt from
    ([ONE, TWO], True),
    (["$3 + 3 = 7$.", TWO], False),  # right by luck
    (["$3 + 3 = 7$.", WRONG], True),  # wrong, and why: a chain that goes back learns from it
    ([ONE], False),  # no answer
    ([r"So $1 + 1 = \boxed{3}$", TWO], False),
]


@pytest.mark.parametrize(("steps", "usable"), CHECKED)
def test_a_right_solution_has_no_false_step(steps, usable):
    assert MATH.checked(PROBLEM, steps) == usable


def test_a_box_hides_no_false_equality():
    (found,) = MATH.checks(PROBLEM, [r"$3 + 4 = \boxed{8}$"])
    assert found == StepChecks(true=0, false=1, unchecked=0)


def test_a_given_up_step_keeps_its_words_and_loses_its_box():
    text, finding = MATH.abandoned(WRONG)
    assert (text, finding) == (r"Step 2: The sum is $\frac{6}{2}$.", "")
    assert not MATH.is_terminal(text)


ANSWERS = [
    (WRONG, r"\frac{6}{2}"),
    (r"The sum is $\frac{6}{2}$.", r"\frac{6}{2}"),
    ("so it is 12 or 7.", "7"),
    ("?", None),
]


@pytest.mark.parametrize(("step", "answer"), ANSWERS)
def test_the_answer_of_an_attempt(step, answer):
    assert answer_of(step) == answer


# --- chains ------------------------------------------------------------------------------------------------------------

DOUBT, TO_STEP, TO_ROOT = PHRASES.reflection[0], PHRASES.return_step[0], PHRASES.return_root[0]
GIVEN_UP = MATH.abandoned(WRONG)[0]


def chain(*paragraphs):
    return MATH.parse_chain(PROBLEM, "\n\n".join(paragraphs))


def test_a_direct_solution():
    found = chain(ONE, TWO)
    assert [n.parent for n in found.nodes] == [-1, 0]
    assert (found.attempts, found.back_edges, found.repeats, found.unparsed) == ([1], [], 0, 0)
    assert [(n.ends, n.right, n.valid) for n in found.nodes] == [(False, None, True), (True, True, True)]


def test_back_to_a_step():
    found = chain(ONE, GIVEN_UP, DOUBT, TO_STEP, ONE, TWO)
    assert [n.text for n in found.nodes] == [ONE, GIVEN_UP, TWO]
    assert [n.parent for n in found.nodes] == [-1, 0, 0]
    assert (found.attempts, found.back_edges) == ([1, 2], [(1, 0)])
    assert [found.nodes[i].right for i in found.attempts] == [False, True]


def test_back_to_the_problem():
    found = chain(ONE, GIVEN_UP, DOUBT, TO_ROOT, PROBLEM.question, "Step 1: Another way.", TWO)
    assert [n.parent for n in found.nodes] == [-1, 0, -1, 2]
    assert found.back_edges == [(1, -1)]


def test_without_phrases_a_restated_step_is_a_return():
    found = chain(ONE, GIVEN_UP, ONE, TWO)
    assert (found.attempts, found.back_edges) == ([1, 2], [(1, 0)])
    found = chain(ONE, GIVEN_UP, PROBLEM.question, ONE, TWO)
    assert (found.attempts, found.back_edges) == ([1, 2], [(1, 0)])  # the deepest step that is restated


def test_without_a_file_of_phrases_they_are_steps_like_others():
    found = Math().parse_chain(PROBLEM, "\n\n".join([ONE, DOUBT, TWO]))
    assert len(found.nodes) == 3


def test_a_return_to_nothing_known_goes_to_the_problem():
    found = chain(ONE, GIVEN_UP, DOUBT, TO_STEP, "Step 1: Something new.", TWO)
    assert (found.back_edges, found.nodes[2].parent) == ([(1, -1)], -1)


def test_a_doubt_without_a_return_goes_on():
    found = chain(ONE, GIVEN_UP, DOUBT, TWO)
    assert (found.attempts, found.back_edges, found.nodes[2].parent) == ([1, 2], [], 1)


def test_an_attempt_made_twice_is_a_repeat():
    found = chain(ONE, GIVEN_UP, DOUBT, TO_STEP, ONE, GIVEN_UP, DOUBT, TO_STEP, ONE, TWO)
    assert len(found.nodes) == 3
    assert (found.attempts, found.repeats) == ([1, 1, 2], 1)
    assert found.back_edges == [(1, 0), (1, 0)]


def test_a_step_over_and_over_is_counted_as_unparsed():
    found = chain(ONE, ONE, ONE)
    assert (len(found.nodes), found.unparsed, found.back_edges) == (1, 2, [])


def test_false_steps_are_not_valid():
    found = chain("Step 1: $3 + 4 = 8$.", TWO)
    assert [n.valid for n in found.nodes] == [False, True]


@pytest.mark.parametrize(
    "text", ["", "\n\n\n", DOUBT, f"{TO_ROOT}\n\n{TO_STEP}", "\\boxed{", "\x00", "$" * 99, PROBLEM.question]
)
def test_any_text_is_a_chain(text):
    found = MATH.parse_chain(PROBLEM, text)
    assert all(-1 <= target < len(found.nodes) and source >= 0 for source, target in found.back_edges)


def test_many_chains_are_those_read_one_by_one():
    texts = ["\n\n".join(p) for p in ([ONE, TWO], [ONE, GIVEN_UP, DOUBT, TO_STEP, ONE, TWO], [], ["$1 = 1 + 1$"])]
    assert MATH.parse_many([PROBLEM] * 4, texts) == [MATH.parse_chain(PROBLEM, text) for text in texts]
