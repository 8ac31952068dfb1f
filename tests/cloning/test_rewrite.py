"""Chains in a model's words: what is asked, what passes, what is tried again, dropped, replaced. Scripted, without an engine."""

import re
from collections import Counter

import pytest

from astro.cloning.rewrite import Ask, Piece, RewriteFigures, chain_id, retold, rewrite
from astro.process import UserError
from astro.search import Sample
from astro.tasks.chat import ChatTemplate
from astro.tasks.math import rewrite as math_rewrite
from astro.tasks.math.rewrite import joined
from astro.tasks.math.solution_text import same_text
from schemas.records import Problem
from tests.cloning.rewriting import LEAD, MATH, PHRASES, editor, examples_for, pieces, traces, triangle, well

TREE = triangle(0)
TRACES = traces(TREE, count=8)
SEARCH = max(TRACES, key=lambda t: t.backtracks)
DIRECT = next(t for t in TRACES if not t.backtracks)


def asked(trace):
    """Numbers of the segments that are rewritten: all but the line ends behind wrong steps."""
    return [i for i, s in enumerate(trace.segments) if s.text.strip()]


def run(trace, write, *, retries=0, on_failure="drop", tree=TREE, asks=None, **chat):
    """A chain rewritten by `write(prompt) -> text or Sample`."""
    job = rewrite(
        chain_id(trace),
        tree.problem,
        pieces(tree, trace),
        editor=editor(**chat),
        retries=retries,
        on_failure=on_failure,
    )
    answer = None
    while True:
        try:
            ((ask,),) = (job.send(answer),)
        except StopIteration as stop:
            return stop.value
        if asks is not None:
            asks.append(ask)
        text = write(ask.prompt)
        answer = [[text if isinstance(text, Sample) else Sample(text, 0.0, 1, True)]]


def targets(trace):
    """Where the jumps of a chain lead: to the node of the return, and on over steps that are written a second time."""
    found, seen, on_the_way = [], {0}, False
    for s in trace.segments:
        if s.kind == "return":
            found.append(s.node)
            on_the_way = True
        elif s.kind != "reflection":
            on_the_way = on_the_way and s.node in seen
            if on_the_way:
                found[-1] = s.node
            seen.add(s.node)
    return found


def read_targets(trace):
    """The same by eval's reader, from the text alone."""
    chain = MATH.parse_chain(TREE.problem, trace.completion)
    node_of = list(dict.fromkeys(s.node for s in trace.segments if s.kind in ("step", "wrong_step")))
    return [0 if to < 0 else node_of[to] for _, to in chain.back_edges]


def test_there_is_something_to_rewrite():
    assert SEARCH.backtracks >= 2
    assert {s.kind for s in SEARCH.segments} == {"step", "wrong_step", "reflection", "return"}
    assert {s.node for s in SEARCH.segments if s.kind == "return"} == {0, 1}  # to the problem, and to a step


@pytest.mark.parametrize("trace", TRACES, ids=lambda t: t.id)
def test_a_good_rewrite_keeps_the_shape_of_the_chain(trace):
    asks = []
    found = run(trace, well, asks=asks)
    assert (found.requests, found.fallbacks, found.dropped_for) == (len(asked(trace)), 0, None)
    assert [(a.segment, a.attempt) for a in asks] == [(i, 0) for i in asked(trace)]
    told = retold(trace, found, step_end=MATH.step_end)
    assert [(s.kind, s.node) for s in told.segments] == [(s.kind, s.node) for s in trace.segments]
    assert told.completion == "".join(s.text for s in told.segments) != trace.completion
    assert told.completion.count("\\boxed") == 1
    assert MATH.grade(TREE.problem, MATH.extract(told.completion)) == "correct"
    for old, new in zip(trace.segments, told.segments, strict=True):
        if old.kind in ("step", "wrong_step"):
            assert new.text.startswith(LEAD)
        elif old.text.strip():
            assert new.text.startswith(tuple(PHRASES.all()))
        else:
            assert new.text == old.text


@pytest.mark.parametrize("trace", TRACES, ids=lambda t: t.id)
def test_what_the_model_rewrote_is_read_as_the_walk_it_was_written_from(trace):
    """Jumps, their targets and the attempts, by eval's reader."""
    told = retold(trace, run(trace, well), step_end=MATH.step_end)
    chain = MATH.parse_chain(TREE.problem, told.completion)
    assert read_targets(told) == targets(told)
    assert [chain.nodes[i].right for i in chain.attempts] == [False] * trace.backtracks + [True]


def test_a_segment_is_written_in_the_sight_of_what_was_written_before_it():
    asks = []
    found = run(SEARCH, well, asks=asks)
    for ask in asks:
        assert MATH.step_end.join(filter(None, found.texts[: ask.segment])) in ask.prompt
        assert TREE.problem.question in ask.prompt
        later = set(found.texts[ask.segment :]) - set(found.texts[: ask.segment])
        assert not any(text in ask.prompt for text in later if text.startswith(LEAD))


def test_a_jump_is_begun_for_the_model():
    asks = []
    run(SEARCH, well, asks=asks)
    for ask in asks:
        jump = SEARCH.segments[ask.segment].kind in ("reflection", "return")
        assert ask.prompt.endswith(tuple(PHRASES.all()) if jump else "thinks it:\n")


TURNS = ChatTemplate(
    source="test",
    template="{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<model>",
    names=(),
    controls=("<user>", "<model>"),
)


def test_prompts_go_through_the_chat_template():
    plain, chat = [], []
    run(SEARCH, well, asks=plain)
    run(SEARCH, well, asks=chat, chat=TURNS)
    for a, b in zip(plain, chat, strict=True):
        message, _, opening = b.prompt.removeprefix("<user>").partition("<model>")
        assert a == Ask(b.segment, b.attempt, f"{message}\n{opening}")


@pytest.mark.parametrize("shots", [0, 1, 2, 9])
def test_as_many_examples_as_are_asked_for_and_there_are(shots):
    asks = []
    run(SEARCH, well, asks=asks, shots=shots)
    shown = Counter(ask.prompt.count("Example ") for ask in asks)
    assert set(shown) <= ({shots} if shots < 9 else {2, 3})
    assert all(("Your turn" in ask.prompt) == bool(shots) for ask in asks)


def test_the_examples_pass_their_own_checks():
    """What the model is shown is what is wanted of it."""
    shown = math_rewrite.load_examples()
    for kind in ("step", "reflection", "jump"):
        for e in getattr(shown, kind):
            problem = Problem(id="e", task="math", question=e.question, gold="1", level=1, chance=None)
            chain = [(Piece("step", i + 1, text), text) for i, text in enumerate(e.chain)]
            if kind == "step":
                answer = MATH.extract(e.given) if e.rule != "step" else None
                piece = Piece("step", 9, e.given, ends=e.rule != "step", last=e.rule == "box", answer=answer)
            elif kind == "reflection":
                piece = Piece("reflection", None, e.opening, opening=e.opening)
            else:
                piece = Piece("return", 1 if e.given else 0, e.given, opening=e.opening, target=e.given)
            assert editor().settle(problem, piece, chain, Sample(e.written, 0.0, 1, True))[1] is None, e


BROKEN = [
    ("step: [", "invalid YAML"),
    ("nothing: x\n", "field 'rules': Field required"),
    (
        "{rules: {step: a}, nothing: x, problem: y, step: [], reflection: [], return: []}",
        r"'rules': \['answer', 'box'\] missing",
    ),
    (
        "{rules: {step: a, answer: b, box: c}, nothing: x, problem: y, reflection: [], return: [], "
        "step: [{question: q, chain: []}]}",
        r"field 'step\.0\.written': Field required",
    ),
]


@pytest.mark.parametrize(("content", "said"), BROKEN)
def test_a_broken_file_of_examples_is_told(tmp_path, monkeypatch, content, said):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    monkeypatch.setattr(math_rewrite, "EXAMPLES", path)
    math_rewrite.load_examples.cache_clear()
    with pytest.raises(UserError, match=f"own\\.yaml: .*{said}"):
        editor()
    math_rewrite.load_examples.cache_clear()


# --- what is wrong, and what is done about it --------------------------------------------------------------------------


def last_number(text):
    """The place of the last number."""
    at = max(i for i, c in enumerate(text) if c.isdigit())
    begin = at
    while text[begin - 1].isdigit():
        begin -= 1
    return begin, at + 1


def without_a_number(prompt):
    text = well(prompt)
    if "\\sqrt" not in text:
        return text
    begin, end = last_number(text)
    return text[:begin] + "five" + text[end:]


def steps_only(change):
    """`change(text)` for steps, jumps as they should be."""
    return lambda prompt: change(well(prompt)) if well(prompt).startswith(LEAD) else well(prompt)


def jumps_only(word, text):
    """`text` behind the openings that hold a word."""
    return lambda prompt: text if word in prompt.rpartition("\n")[2] else well(prompt)


def vague(prompt):
    """Says where it goes back to in words that fit any step."""
    return "done something before." if "had" in prompt.rpartition("\n")[2] else well(prompt)


def other_step(prompt):
    """Names a step, but another one: the last of the attempt."""
    back = "where we had" in prompt.rpartition("\n")[2]
    formula = re.findall(r"\$\d+ \+ \d+ = \d+\$", prompt)[-1:]  # the end of the attempt
    return f"the sum {formula[0]}." if back else well(prompt)


FAULTS = [
    # fault, how the model misbehaves
    ("empty", steps_only(lambda text: " \n")),
    ("cut", steps_only(lambda text: Sample(text, 0.0, 512, False))),
    ("cut", steps_only(lambda text: Sample("", 0.0, 0, False))),  # the prompt leaves no room
    ("markup", steps_only(lambda text: text + "<|eot_id|>")),
    ("markup", steps_only(lambda text: text + "<|start_header_id|>user")),
    ("markup", steps_only(lambda text: "[INST] " + text)),
    ("paragraphs", steps_only(lambda text: text + "\nStep 3: We are done.")),
    ("paragraphs", steps_only(lambda text: "But wait, are we solving the problem correctly so far? Hmm... " + text)),
    ("length", steps_only(lambda text: text + " And so on and so forth." * 40)),
    ("length", steps_only(lambda text: "Yes.")),
    ("lost", without_a_number),
    ("lost", steps_only(lambda text: LEAD + "Here we do what is to be done, and it is not very hard at all to do.")),
    ("added", steps_only(lambda text: text + " Note that $77$ is too much.")),
    ("added", steps_only(lambda text: text + " And $3 = 4$.")),  # both numbers are known, the equation is not
    ("added", jumps_only("wait", "It should be $99$.")),
    ("added", jumps_only("where we had", "set up $3 + 4 + 5 = 13$.")),
    ("answer", steps_only(lambda text: text.replace("\\boxed{12}", "12"))),  # the last box is gone
    ("answer", steps_only(lambda text: text.replace("\\boxed{12}", "\\boxed{5} and 12"))),
    ("answer", steps_only(lambda text: text if "boxed" in text else text + " The answer is $\\boxed{3}$.")),
    ("answer", steps_only(lambda text: text if "answer" in text else text + " So the final answer is $4$.")),
    ("answer", jumps_only("wait", "The answer is $3$.")),
    ("unnamed", vague),
    ("unnamed", other_step),
]


CHAIN = next(
    t
    for n in range(40)
    for t in traces(TREE, count=8, seed=n)
    if t.backtracks == 3
    and any(s.text.startswith("But wait") for s in t.segments)
    and any(s.node == 1 and "where we had" in s.text for s in t.segments if s.kind == "return")
)
"""A chain of all kinds of segments, with the phrases that the writers below look for."""


@pytest.mark.parametrize(("fault", "write"), FAULTS)
def test_a_bad_rewrite_is_counted_tried_again_and_dropped(fault, write):
    asks = []
    found = run(CHAIN, write, retries=2, asks=asks)
    assert found.texts is None
    assert found.dropped_for == fault
    assert getattr(found.rejected, fault) == sum(found.rejected.model_dump().values()) == 3
    at = asks[-1].segment
    assert [a.attempt for a in asks if a.segment == at] == [0, 1, 2]
    assert len({a.prompt for a in asks if a.segment == at}) == 1
    assert [(a.segment, a.attempt) for a in asks[:-3]] == [
        (i, 0) for i in asked(CHAIN) if i < at
    ]  # what was good before is not asked again
    assert found.requests == len(asks)


@pytest.mark.parametrize(("fault", "write"), FAULTS)
def test_or_the_template_stands_in(fault, write):
    found = run(CHAIN, write, retries=1, on_failure="template")
    assert found.dropped_for is None
    assert found.fallbacks >= 1
    rejected = found.rejected.model_dump()
    assert rejected[fault] >= 2 * (rejected[fault] == sum(rejected.values()))
    assert sum(rejected.values()) == found.requests - len(asked(CHAIN)) + found.fallbacks
    told = retold(CHAIN, found, step_end=MATH.step_end)
    assert MATH.grade(TREE.problem, MATH.extract(told.completion)) == "correct"
    assert told.completion.count("\\boxed") == 1


def test_a_return_of_the_template_restates_the_words_of_the_chain():
    """So that it is recognised, though the step it goes back to was rewritten."""
    found = run(CHAIN, vague, on_failure="template")
    told = retold(CHAIN, found, step_end=MATH.step_end)
    said = {s.node: s.text for s in told.segments if s.kind in ("step", "wrong_step")}
    (back,) = {s.text for s in told.segments if s.kind == "return" and s.node == 1 and "where we had" in s.text}
    assert back.endswith("where we had\n\n" + said[1])
    assert read_targets(told) == targets(told)


def test_a_number_in_front_of_a_step_is_taken_off():
    found = run(DIRECT, steps_only(lambda text: "## Step 7: " + text))
    assert found.texts == run(DIRECT, well).texts


BOXES = [
    # the last step, its rewrite, whether that gives the same answer
    (r"It is $\boxed{\frac{1}{2}}$.", r"So it is $\boxed{\dfrac12}$.", True),
    (r"As $x = 0.5$, it is $\boxed{1/2}$.", r"We have $x = 0.5$, so $\boxed{\frac{1}{2}}$.", True),  # equal in value
    (r"As $x = 0.5$, it is $\boxed{1/2}$.", r"We have $x = 0.5$, $1/2$, so $\boxed{\frac{2}{1}}$.", False),
    (r"It is $\boxed{\frac{1}{2}}$.", r"So it is $\boxed{\frac{2}{1}}$.", False),
    (r"$\boxed{-2}$ and $\boxed{1}$.", r"We have $\boxed{-2}$ and $\boxed{1}$.", True),  # an answer of two values
    (r"$\boxed{-2}$ and $\boxed{1}$.", r"We have $\boxed{-2}$ and $1$.", False),
    (r"It is $\boxed{(1, 2)}$.", r"So it is $\boxed{(2, 1)}$.", False),
    (r"It is $\boxed{2}$.", r"So it is $\boxed{2$.", False),  # never closed
]


@pytest.mark.parametrize(("step", "rewrite", "same"), BOXES)
def test_the_last_step_boxes_what_it_boxed(step, rewrite, same):
    piece = Piece("step", 1, step, ends=True, last=True, answer=MATH.extract(step))
    _, fault = editor().settle(TREE.problem, piece, [], Sample(rewrite, 0.0, 1, True))
    assert (fault is None) is same


def test_a_second_try_that_passes_is_taken():
    tries = Counter()

    def write(prompt):
        tries[prompt] += 1
        return well(prompt) + (" It is $77$." if tries[prompt] < 3 and well(prompt).startswith(LEAD) else "")

    steps = sum(s.kind in ("step", "wrong_step") for s in SEARCH.segments)
    found = run(SEARCH, write, retries=2)
    assert found.texts == run(SEARCH, well).texts
    assert (found.rejected.added, found.requests) == (2 * steps, len(asked(SEARCH)) + 2 * steps)


def test_without_phrases_jumps_are_left_as_they_are():
    trace = next(t for t in traces(TREE, count=8, phrases=None) if t.backtracks)
    asks = []
    found = run(trace, well, asks=asks)
    assert [trace.segments[a.segment].kind for a in asks] == [
        s.kind for s in trace.segments if s.kind not in ("return", "reflection")
    ]
    told = retold(trace, found, step_end=MATH.step_end)
    assert [s.text for s in told.segments if s.kind == "return"] == [
        s.text for s in trace.segments if s.kind == "return"
    ]


# --- both training sets ------------------------------------------------------------------------------------------------


def test_an_example_stands_in_both_training_sets_or_in_none():
    trees = [triangle(n) for n in range(6)]
    arms = [[t for which in trees for t in traces(which, reflection=reflection)] for reflection in (True, False)]
    by_id = {which.problem.id: which for which in trees}

    def write(prompt):  # chains of one problem fail, and chains that go back to a step
        return "" if "$6$ and $8$" in prompt.rpartition("Problem: ")[2] else vague(prompt)

    found = {chain_id(t): run(t, write, tree=by_id[t.problem_id], retries=1) for arm in arms for t in arm}
    figures = RewriteFigures()
    told = [figures.retold(pair, found, step_end=MATH.step_end) for pair in zip(*arms, strict=True)]
    (search, direct), metrics = zip(*filter(None, told), strict=True), figures.metrics()
    assert [t.id for t in search] == [t.id for t in direct]
    dropped = {t.id for arm in arms for t in arm if found[chain_id(t)].texts is None}
    assert {t.id for t in arms[0]} - {t.id for t in search} == dropped != set()
    assert {"t1"} < {t.partition("/")[0] for t in dropped}
    assert "t1" not in {t.problem_id for t in search}
    assert metrics.left_out == round(len(dropped) / len(arms[0]), 6)
    same = {t.id for a, b in zip(*arms, strict=True) for t in [a] if a == b}
    assert same  # direct chains stand in both, and are rewritten once
    assert metrics.chains == len(found) == 2 * len(arms[0]) - len(same)
    assert metrics.dropped == sum(r.texts is None for r in found.values())
    assert metrics.dropped == metrics.dropped_for.empty + metrics.dropped_for.unnamed
    assert metrics.dropped_for.unnamed > 0
    assert metrics.rejected.unnamed == 2 * metrics.dropped_for.unnamed


JOINED = [
    # opening, written, together
    ("We had", "a sum.", "We had a sum."),
    ("We had", ".", "We had."),
    ("We had", ", it seems, a sum", "We had, it seems, a sum"),
    ("", "A sum.", "A sum."),
    ("Hmm...", "", "Hmm..."),
    ("We had", "We had a sum.", "We had a sum."),  # the model begins anew
    ("We had", "“We had a sum.”", "We had “We had a sum.”"),
]


@pytest.mark.parametrize(("opening", "written", "expected"), JOINED)
def test_an_opening_and_what_goes_on_from_it(opening, written, expected):
    assert joined(opening, written) == expected


def test_examples_to_pretrain_on_pass():
    """Helper of other tests: a model that learnt them by heart writes chains that pass."""
    pairs = list(examples_for([TREE], editor=editor()))
    assert len(pairs) == sum(len(asked(t)) for t in traces(TREE))
    answers = dict(pairs)
    for trace in traces(TREE):
        assert run(trace, answers.__getitem__).texts is not None
    assert same_text(pairs[0][1])
