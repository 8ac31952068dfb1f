"""The embedded tokenizer: text and tokens map exactly, both ways."""

import itertools
import random
from pathlib import Path

import pytest

from astro.cloning.verbalize import load_phrases
from astro.tasks.countdown.sets import corpus
from astro.tasks.countdown.wording import vocabulary
from astro.training.wordlevel import EOS, PAD, UNK, add_unspellable, build_tokenizer, unknown_words

LARGEST = 60


@pytest.fixture
def tokenizer():
    return build_tokenizer(vocabulary(LARGEST), 128)


def spelled(tokenizer, text):
    """The tokens of a text, as text."""
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def back(tokenizer, text):
    return tokenizer.decode(tokenizer(text)["input_ids"])


TEXTS = [
    # (text, its tokens)
    ("make 24 from 3 5", ["make", "24", "from", "3", "5"]),
    # a line end is a token, and no space stands beside it
    ("make 24 from 3 8\n3 * 8", ["make", "24", "from", "3", "8", "\n", "3", "*", "8"]),
    ("\n", ["\n"]),
    ("\n\n", ["\n", "\n"]),
    ("yes\n\nno", ["yes", "\n", "\n", "no"]),
    # the prompt ends with a line end
    ("make 5 from 2 3\n", ["make", "5", "from", "2", "3", "\n"]),
    # brackets are words
    ("answer 3 * ( 7 + ( 9 - 5 ) )", ["answer", "3", "*", "(", "7", "+", "(", "9", "-", "5", ")", ")"]),
    # the largest number
    ("60", ["60"]),
]


@pytest.mark.parametrize(("text", "tokens"), TEXTS)
def test_a_word_is_a_token_and_decodes_as_it_was(tokenizer, text, tokens):
    assert spelled(tokenizer, text) == tokens
    assert back(tokenizer, text) == text


def test_every_text_of_the_corpus_survives_the_round_trip(tokenizer):
    world = {"number_max": 9, "target_min": 5, "target_max": 60, "value_max": LARGEST}
    made = corpus(random.Random(0), levels={"3": 0.5, "4": 0.5}, miss_share=0.4, excluded=set(), world=world)
    for text in itertools.islice(made, 200):
        assert UNK not in spelled(tokenizer, text)
        assert back(tokenizer, text) == text
        assert len(tokenizer(text)["input_ids"]) == len(text.replace("\n", " \n ").split(" "))


def test_the_vocabulary_is_specials_and_the_words_of_the_task(tokenizer):
    assert len(tokenizer) == 3 + len(vocabulary(LARGEST))
    assert tokenizer.convert_ids_to_tokens([tokenizer.pad_token_id, tokenizer.eos_token_id]) == [PAD, EOS]


UNKNOWN = ["61", "Make", "makes", "3+4", "x"]  # a larger number; another case; a longer word; no spaces; a name


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_is_no_word_is_unknown(tokenizer, text):
    assert spelled(tokenizer, text) == [UNK]


def test_end_and_padding_are_left_out_on_request(tokenizer):
    ids = [*tokenizer("3 + 4")["input_ids"], tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "3 + 4"


def test_offsets_point_into_the_text(tokenizer):
    """The SFT labels are read off them."""
    text = "make 24 from 3 8\n3 * 8"
    encoded = tokenizer(text, return_offsets_mapping=True)
    pieces = [text[a:b] for a, b in encoded["offset_mapping"]]
    assert pieces == tokenizer.convert_ids_to_tokens(encoded["input_ids"])


# --- phrases ----------------------------------------------------------------------------------------------------------

DOUBT, BACK = "But wait, is that right? Hmm...", "Let's go back to"


def test_an_added_phrase_costs_one_token(tokenizer):
    assert add_unspellable(tokenizer, [DOUBT, BACK, DOUBT]) == [DOUBT, BACK]
    text = f"3 * 8 = 24 make 25 got 24 no\n{DOUBT}\n{BACK}\nmake 25 from 3 8\n"
    tokens = spelled(tokenizer, text)
    assert tokens[tokens.index("no") :] == ["no", "\n", DOUBT, "\n", BACK, "\n", "make", "25", "from", "3", "8", "\n"]
    assert back(tokenizer, text) == text


def test_words_keep_their_ids_when_phrases_come(tokenizer):
    before = tokenizer("make 24 from 3 8\n")["input_ids"]
    size = len(tokenizer)
    add_unspellable(tokenizer, [DOUBT, BACK])
    assert tokenizer("make 24 from 3 8\n")["input_ids"] == before
    assert [tokenizer.convert_tokens_to_ids(t) for t in (DOUBT, BACK)] == [size, size + 1]


def test_a_phrase_of_known_words_needs_no_token(tokenizer):
    assert add_unspellable(tokenizer, ["make yes", DOUBT]) == [DOUBT]


def test_adding_again_adds_nothing(tokenizer):
    add_unspellable(tokenizer, [DOUBT])
    assert add_unspellable(tokenizer, [DOUBT]) == []


def test_phrases_survive_being_saved(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    add_unspellable(tokenizer, [DOUBT])
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = f"3 + 4\n{DOUBT}\nyes"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("path", sorted(Path("phrases").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_phrases_survive_the_round_trip(tokenizer, path):
    phrases = load_phrases(path).all()
    add_unspellable(tokenizer, phrases)
    for phrase in phrases:
        text = f"no\n{phrase}\nmake 5 from 2 3\n"
        assert back(tokenizer, text) == text


def test_words_that_no_token_spells_are_counted(tokenizer):
    texts = ["make 5 from 2 3\nnever 2", "never ever\n", "2 + 3"]
    assert unknown_words(tokenizer, texts) == {"never": 2, "ever": 1}
    add_unspellable(tokenizer, ["never", "ever"])
    assert unknown_words(tokenizer, texts) == {}


def test_a_tokenizer_that_spells_everything_gets_no_token(tokenizer):
    """As subword tokenizers do, which have no unknown token."""
    tokenizer.unk_token = None
    size = len(tokenizer)
    assert add_unspellable(tokenizer, [DOUBT]) == []
    assert len(tokenizer) == size
