"""The tokenizer of an embedded base: each word is one token, so text and tokens map exactly."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def build_tokenizer(words: Sequence[str], context: int) -> PreTrainedTokenizerFast:
    """Tokenizer over `words`, in this order. Single spaces separate words; a line end is a token."""
    vocabulary = {word: i for i, word in enumerate([PAD, EOS, UNK, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(Regex(" +"), "removed")]
    )
    # Words are joined by spaces, but without a space beside a line end.
    core.decoder = decoders.Sequence(
        [decoders.WordPiece("##", False), decoders.Fuse(), decoders.Replace(Regex(" ?\n ?"), "\n")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.padding_side = "right"
    return tokenizer


def add_unspellable(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[str]:
    """Add a token for each text that the tokenizer cannot spell (it would contain an unknown token). Returns these texts.

    A phrase of ten words then costs one token. Subword tokenizers can spell everything, so nothing is added to them.
    """
    if tokenizer.unk_token_id is None:
        return []
    missing = [t for t in dict.fromkeys(texts) if tokenizer.unk_token_id in tokenizer(t)["input_ids"]]
    tokenizer.add_tokens(missing)
    return missing


def unknown_words(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, int]:
    """The words that the tokenizer cannot spell -> number of texts that hold them, the most frequent first.

    A model can neither read nor write such a word: the unknown token stands for it, and disappears from what is decoded.
    """
    unknown, found = tokenizer.unk_token_id, Counter[str]()
    if unknown is None or unknown == tokenizer.eos_token_id:  # subword tokenizers spell everything
        return {}
    for text in texts:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        found.update({text[a:b] for token, (a, b) in spans if token == unknown})
    return dict(found.most_common())
