"""Countdown in words for chat models: the same problems, grades and graphs as in the plain wording."""

import pickle
import random
import re

import pytest

from astro.tasks import get_task
from astro.tasks.chat import chat_template_of
from astro.tasks.countdown.sets import corpus
from astro.tasks.countdown.task import Countdown
from astro.tasks.countdown.wording import PLAIN, SYSTEM, WORDS, Move, question, write_solution
from schemas.records import Problem
from tests.tiny_chat import chat_tokenizer

CHAT = chat_template_of(chat_tokenizer("qwen"), source="qwen")
SAID, BARE = Countdown(chat=CHAT), Countdown()
WORLD = {"number_max": 12, "target_min": 5, "target_max": 60, "value_max": 60}
MOVES = [Move(9, "-", 5, 4), Move(7, "+", 4, 11), Move(3, "*", 11, 33)]


def problem(target, numbers):
    return Problem(
        id="p",
        task="countdown",
        question=question(target, numbers),
        gold=str(target),
        level=len(numbers),
        chance=None,
    )


def test_a_solution_reads_as_a_person_would_write_it():
    assert write_solution(24, [3, 5, 7, 9], MOVES, WORDS) == [
        "9 - 5 = 4, which leaves 3, 7 and 4.",
        "7 + 4 = 11, which leaves 3 and 11.",
        "3 * 11 = 33. We need 24 and have 33: no. Answer: 3 * (7 + (9 - 5))",
    ]


def test_a_problem_is_a_message_and_the_prompt_ends_where_the_model_answers():
    prompt = get_task("countdown", chat=CHAT).prompt(problem(24, [3, 8]))
    assert prompt == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nMake 24 from 3 and 8.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert pickle.loads(pickle.dumps(SAID)).prompt(problem(24, [3, 8])) == prompt


def solutions(count):
    """(target, numbers, plain steps, steps in words) of random solutions, right and wrong."""
    settings = {"levels": {"2": 0.2, "3": 0.4, "4": 0.4}, "miss_share": 0.5, "excluded": set(), "world": WORLD}
    plain, said = (corpus(random.Random(5), chat=chat, **settings) for chat in (None, CHAT))
    for _ in range(count):
        asked, *steps = next(plain).split("\n")
        target, *numbers = map(int, re.findall(r"\d+", asked))
        conversation = next(said)
        prompt = SAID.prompt(problem(target, numbers))
        assert conversation.startswith(prompt)
        yield target, numbers, steps, conversation.removeprefix(prompt).split("\n")


def shape(chain):
    nodes = [(n.parent, n.valid, n.ends, n.right, n.claim) for n in chain.nodes]
    return nodes, chain.back_edges, chain.attempts, chain.repeats, chain.unparsed


def test_both_wordings_have_the_same_graph_grade_and_states():
    right = 0
    for target, numbers, plain, said in solutions(300):
        asked = problem(target, numbers)
        texts = BARE.response(plain), SAID.response(said)
        chains = BARE.parse_chain(asked, texts[0]), SAID.parse_chain(asked, texts[1])
        assert shape(chains[0]) == shape(chains[1])
        assert all(node.valid for node in chains[1].nodes)
        answers = BARE.extract(texts[0]), SAID.extract(texts[1])
        assert answers[0].replace("( ", "(").replace(" )", ")") == answers[1]
        grades = {BARE.grade(asked, answers[0]), SAID.grade(asked, answers[1])}
        assert len(grades) == 1
        right += grades == {"correct"}
        assert BARE.checked(asked, plain)
        assert SAID.checked(asked, said)
        assert SAID.split(texts[1]) == said
        assert [BARE.is_terminal(s) for s in plain] == [SAID.is_terminal(s) for s in said]
        for steps, other in zip(plain[:-1], said[:-1], strict=True):
            assert BARE.state_key([steps]) == SAID.state_key([other])
        assert BARE.canonical(answers[0]) == SAID.canonical(answers[1])
    assert 100 < right < 250


def test_a_chain_that_goes_back_is_read_like_the_plain_one():
    asked, wrong = problem(24, [3, 5, 7, 9]), write_solution
    texts = []
    for task, wording in ((BARE, PLAIN), (SAID, WORDS)):
        first = wrong(24, [3, 5, 7, 9], MOVES, wording)
        then = wrong(24, [3, 5, 7, 9], [MOVES[0], Move(7, "-", 4, 3), Move(3, "*", 3, 9)], wording)
        kept, finding = task.abandoned(first[-1])
        lines = [
            *first[:-1],
            kept + finding,
            "But wait, that is not right.",
            task.restate(asked, first[:1]).rstrip("\n"),
        ]
        texts.append(task.response([*lines, *then[1:]]))
    plain, said = BARE.parse_chain(asked, texts[0]), SAID.parse_chain(asked, texts[1])
    assert shape(plain) == shape(said)
    assert (len(said.back_edges), said.unparsed) == (1, 0)
    assert "3 * 11 = 33. We need 24 and have 33: no.\n" in texts[1]
    assert "Make 24 from 3, 5, 7 and 9.\n9 - 5 = 4, which leaves 3, 7 and 4.\n" in texts[1]
    assert texts[1].count("Answer:") == 1


READ = [
    # (last line of a response, verdict)
    ("Answer: 3 * (7 + 9 - 5 - 3)", "wrong"),  # a number twice
    ("Answer: (9 - 5) * 3 + 7 + 5", "wrong"),
    ("3 * 8 = 24. We need 24 and have 24: yes. Answer: 3 * (9 - 5 + 7 - 3)", "wrong"),
    ("Answer: 9 + 7 + 5 + 3.", "correct"),  # a person ends a sentence
    ("Answer: 9 + 7 + 5 + 3", "correct"),
    ("Answer: I cannot", "unparseable_prediction"),
    ("The answer is 24", "unparseable_prediction"),
    ("Answer:", "unparseable_prediction"),
    ("Answer: __import__('os')", "unparseable_prediction"),
]


@pytest.mark.parametrize(("line", "verdict"), READ)
def test_answers_are_graded_exactly(line, verdict):
    asked = problem(24, [3, 5, 7, 9])
    assert SAID.grade(asked, SAID.extract("9 - 5 = 4, which leaves 3, 7 and 4.\n" + line)) == verdict


STEPS = [
    # (line, legal and faithful?)
    ("9 - 5 = 4, which leaves 3, 7 and 4.", True),
    ("9 - 5 = 4, which leaves 3, 4, 7.", True),  # another order, no "and"
    ("9 - 5 = 3, which leaves 3, 7 and 3.", False),
    ("9 - 5 = 4, which leaves 3 and 7.", False),
    ("9 - 6 = 3, which leaves 3, 5, 7 and 3.", False),
]


@pytest.mark.parametrize(("line", "valid"), STEPS)
def test_single_steps_are_checked(line, valid):
    (node,) = SAID.parse_chain(problem(24, [3, 5, 7, 9]), line).nodes
    assert node.valid == valid


def test_prose_is_passed_over_and_a_broken_line_is_counted():
    text = "Let me try.\n9 - 5 = 4 and so on\nSo 9 - 5 = 4, which leaves 3, 7 and 4."
    chain = SAID.parse_chain(problem(24, [3, 5, 7, 9]), text)
    assert (len(chain.nodes), chain.unparsed) == (0, 2)


def test_a_vote_asks_for_the_word_that_a_check_ends_with():
    steps = write_solution(24, [3, 5, 7, 9], MOVES, WORDS)
    prompt, sound = SAID.vote_prompt(problem(24, [3, 5, 7, 9]), steps)
    assert prompt.endswith("3 * 11 = 33. We need 24 and have 33:")
    assert sound == "yes"
