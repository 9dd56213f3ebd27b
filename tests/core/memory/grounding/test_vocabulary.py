"""The bytes of tokens, held against texts that tokenizers encode and decode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from memorag_core import UnsupportedModelError
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.grounding import Vocabulary
from memorag_core.memory.tokenizer import Tokens
from tests.core.memory.grounding.corpora import KINDS, evened, texts, trained, vocabulary_of, wrapped

SENTENCES = (
    "The king's men rode 3.5 miles, then -- as told -- they stopped!",
    "说：“你好”，《红楼梦》第3回。 Привет мир. สวัสดี 👩\u200d👩\u200d👧",
)


def said(vocabulary: Vocabulary, ids: list[int]) -> str | None:
    """The text of tokens; None where one of them has no bytes."""
    pieces = [vocabulary.texts[token] for token in ids]
    return None if None in pieces else evened(b"".join(piece or b"" for piece in pieces).decode())


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts, seed=st.integers(0, 3))
def test_the_bytes_of_the_tokens_of_a_text_are_the_text(kind: str, text: str, seed: int) -> None:
    tokens = trained(kind, seed)
    ids = tokens.encode_text(evened(text)).tolist()
    found = said(Vocabulary.of(tokens), ids)
    if kind != "unigram without bytes" or found is not None:
        assert found == evened(text)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_no_bytes(kind: str) -> None:
    tokens = trained(kind, 0)
    vocabulary = Vocabulary.of(tokens)
    assert tokens.end_id is not None
    assert vocabulary.texts[tokens.end_id] is None
    unknown = tokens.backend.token_to_id("<unk>")
    assert unknown is None or vocabulary.texts[unknown] is None


@pytest.mark.parametrize("kind", KINDS[:2] + KINDS[3:])
def test_every_byte_of_utf_8_has_a_token_but_the_border_has_none(kind: str) -> None:
    vocabulary = Vocabulary.of(trained(kind, 0))
    assert vocabulary.by_text.keys() >= {bytes([byte]) for byte in (*range(0x21, 0x80), *range(0x80, 0xC0))}
    assert not any(b"\xff" in text for text in vocabulary.by_text)


def test_a_line_break_ends_a_line_behind_the_text_before_it_and_nothing_may_follow_it() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    entries = {".\n": ".", " \n\n": "", "\r\n": "", " .\t\n  ": " .", "\n": "", ".": ".", "  ": " "}
    tokenizer.train_from_iterator([], trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"]))
    spelled = {
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(entry)[0][0]: entry
        for entry in (*entries, ".\nThe")
    }
    vocab = {"<end>": 0} | {letters: number for number, letters in enumerate(spelled, start=1)}
    letters = {letter for entry in spelled for letter in entry} - vocab.keys()
    vocab |= {letter: number for number, letter in enumerate(sorted(letters), start=len(vocab))}
    tokenizer.model = models.BPE(vocab=vocab, merges=[])
    vocabulary = Vocabulary.of(wrapped(tokenizer))
    for letters_, entry in spelled.items():
        token = vocab[letters_]
        expected = entries.get(entry)
        assert vocabulary.texts[token] == (None if expected is None else expected.encode())
        assert (token in vocabulary.line_ends) == ("\n" in entry and expected is not None)


def test_the_bundled_tokenizer_is_told_and_its_line_token_ends_a_line() -> None:
    tokens = Tokens.load(bundled_path(), line_token="<|line|>", none_token="<|none|>")
    assert tokens is not None
    vocabulary = Vocabulary.of(tokens)
    for sentence in SENTENCES:
        assert said(vocabulary, tokens.encode_text(sentence).tolist()) == sentence
    line = tokens.backend.token_to_id("<|line|>")
    assert line is not None
    assert vocabulary.texts[line] == b""
    assert line in vocabulary.line_ends
    assert tokens.none_id is not None
    assert vocabulary.texts[tokens.none_id] is None


def test_lookups_give_the_tokens_that_begin_a_text() -> None:
    vocabulary = vocabulary_of(["<end>", "f", "▁f", "fo", "o", "▁fox", "fox▁r", "fox▁runs", "\n"])
    assert list(vocabulary.beginning(b"fox ran")) == [1, 3, 6]
    assert list(vocabulary.beginning(b"fox ran", spaced=True)) == [1, 2, 3, 5, 6]
    assert list(vocabulary.beginning(b"")) == []


def test_a_tokenizer_that_glues_words_by_rules_is_refused() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "<end>": 3}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedModelError, match=r"WordPiece.*Expected a byte-level.*without grounding"):
        Vocabulary.of(wrapped(tokenizer))


def test_a_tokenizer_without_a_decoder_or_with_ends_of_words_is_refused() -> None:
    bare = Tokenizer(models.BPE({"a": 0, "<end>": 1}, []))
    with pytest.raises(UnsupportedModelError, match="decoder none"):
        Vocabulary.of(wrapped(bare))
    suffixed = Tokenizer(models.BPE({"a</w>": 0, "<end>": 1}, [], end_of_word_suffix="</w>"))
    suffixed.decoder = decoders.ByteLevel()
    with pytest.raises(UnsupportedModelError, match="BPE with the decoder ByteLevel"):
        Vocabulary.of(wrapped(suffixed))
