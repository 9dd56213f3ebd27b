from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.protocols import LearnedSparseEncoder, TextEncoder
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.encoders.embedders import as_embedder
from memorag_core.retrieval.encoders.flag import FlagEmbedder, FlagScorer, flag_embedder, flag_reranker
from memorag_core.retrieval.encoders.inference import guarded
from memorag_core.retrieval.learned_sparse import LearnedSparseIndex
from memorag_core.retrieval.rerank import as_reranker, ordered
from tests.core.retrieval.conftest import chunks_of, weighed
from tests.core.retrieval.encoders.tiny_encoders import POSITIONS, write_encoder, write_reranker

library = pytest.importorskip("FlagEmbedding")

TEXTS = [
    "the lantern is where the captain mends it",
    "a clock",
    "who mends the clock daily",
    "harbour",
    "",
    "the captain does a letter daily " * 3,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("m3"))


@pytest.fixture(scope="module")
def original(folder: Path) -> Any:
    """FlagEmbedding's own object, asked in its own way."""
    return library.BGEM3FlagModel(str(folder), devices="cpu", use_fp16=False)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> FlagEmbedder:
    return flag_embedder(folder, device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("reranker"))


@pytest.fixture(scope="module")
def reranker(scoring: Path) -> FlagScorer:
    return flag_reranker(scoring, device="cpu", batch_size=4)


def test_vectors_and_weights_are_those_of_the_library_in_the_order_of_the_texts(
    embedder: FlagEmbedder, original: Any
) -> None:
    expected = original.encode(TEXTS, return_dense=True, return_sparse=True, max_length=POSITIONS)
    both = embedder.encode(TEXTS)
    assert both.vectors.dtype == np.float32
    assert both.vectors == pytest.approx(expected["dense_vecs"], abs=1e-5)
    assert np.array(embedder.embed_documents(TEXTS)) == pytest.approx(expected["dense_vecs"], abs=1e-5)
    for weights, alone, told in zip(
        both.weights, embedder.lexical_documents(TEXTS), expected["lexical_weights"], strict=True
    ):
        told = {int(token): float(weight) for token, weight in told.items()}
        assert dict(weights) == pytest.approx(told, abs=1e-5)
        assert dict(alone) == pytest.approx(told, abs=1e-5)
    assert both.weights[4] == {}  # no text, no words
    assert len(both.weights[0]) > 2


def test_late_interaction_scores_are_those_of_the_library(embedder: FlagEmbedder, original: Any) -> None:
    query, passages = "who mends the lantern", [text for text in TEXTS if text]
    expected = original.compute_score([(query, passage) for passage in passages])["colbert"]
    assert embedder.colbert_scores(query, passages) == pytest.approx(expected, abs=1e-5)
    assert embedder.colbert_scores(query, []) == []


def test_it_has_the_shapes_that_the_rest_asks_for(embedder: FlagEmbedder, original: Any) -> None:
    assert as_embedder(embedder) is embedder
    assert isinstance(as_embedder(original), FlagEmbedder)
    assert isinstance(embedder, TextEncoder)
    assert isinstance(embedder, LearnedSparseEncoder)
    assert json.loads(json.dumps(embedder.fingerprint)) == embedder.fingerprint


def test_dense_and_lexical_indexes_of_one_pass_are_saved_and_loaded_to_the_same_answers(
    embedder: FlagEmbedder, folder: Path, tmp_path: Path
) -> None:
    chunks = chunks_of(TEXTS)
    both = embedder.encode(TEXTS)
    dense = DenseIndex.from_vectors(both.vectors, embedder, backend="numpy")
    lexical = LearnedSparseIndex.from_weights(both.weights, embedder)
    arrays, header = lexical.pack()
    save_file({"vectors": dense.vectors, **arrays}, tmp_path / "index.safetensors")
    (tmp_path / "index.json").write_text(json.dumps(header))

    again = flag_embedder(folder, device="cpu")  # as in another process
    read = load_file(tmp_path / "index.safetensors")
    loaded_dense = DenseIndex.from_vectors(read.pop("vectors"), again, backend="numpy")
    loaded = LearnedSparseIndex.unpack(read, json.loads((tmp_path / "index.json").read_text()), again)
    queries = ["who mends the clock", "harbour", "", "zebra"]
    assert loaded_dense.search(queries, 3) == dense.search(queries, 3)
    assert loaded.search(queries, 3) == lexical.search(queries, 3)
    assert len(loaded.search(queries, 3)[0]) == 3
    assert loaded.search(["", "zebra"], 3) == [[], []]
    built = weighed(chunks, embedder, batch_size=3)
    for one, other in zip(built.search(queries, 6), lexical.search(queries, 6), strict=True):
        assert dict(one) == pytest.approx(dict(other), abs=1e-5)


def test_lexical_scores_are_those_of_the_library(embedder: FlagEmbedder, original: Any) -> None:
    query = "who mends the clock daily"
    (found,) = weighed(chunks_of(TEXTS), embedder).search([query], len(TEXTS))
    asked = original.encode(query, return_dense=False, return_sparse=True)["lexical_weights"]
    held = original.encode(TEXTS, return_dense=False, return_sparse=True, max_length=POSITIONS)
    scores = original.compute_lexical_matching_score([asked] * len(TEXTS), held["lexical_weights"])
    flat = np.asarray(scores)[0]
    expected = {ordinal: score for ordinal, score in enumerate(flat) if score > 0}
    assert dict(found) == pytest.approx(expected, abs=1e-5)


def test_no_texts_give_nothing_where_the_library_fails(
    embedder: FlagEmbedder, reranker: FlagScorer, original: Any
) -> None:
    with pytest.raises(AttributeError):
        original.encode([])
    assert embedder.embed_documents([]) == []
    assert embedder.lexical_documents([]) == []
    assert embedder.encode([]).weights == ()
    assert reranker("who", []) == []


def test_texts_longer_than_the_positions_are_cut_where_the_library_fails(
    embedder: FlagEmbedder, original: Any
) -> None:
    long = "lantern harbour clock " * 40
    with pytest.raises(AttributeError):
        original.encode_corpus([long], max_length=512)
    head = " ".join(long.split()[: POSITIONS - 2])
    assert embedder.max_tokens == POSITIONS
    assert embedder.count_tokens(head) == POSITIONS
    assert embedder.count_tokens(long) == 122  # counted, not cut
    assert embedder.embed_documents([long])[0] == pytest.approx(embedder.embed_query(head), abs=1e-6)
    assert embedder.embed_query(long) == pytest.approx(embedder.embed_query(head), abs=1e-6)


def test_a_lower_limit_is_kept_to_and_a_higher_one_refused(folder: Path, embedder: FlagEmbedder) -> None:
    short = flag_embedder(folder, device="cpu", max_tokens=5)
    assert short.embed_query("a b lantern clock") == pytest.approx(short.embed_query("a b lantern"), abs=1e-6)
    assert short.fingerprint != embedder.fingerprint
    for wrong in (0, POSITIONS + 1, True):
        with pytest.raises(InputError, match="max_tokens is"):
            flag_embedder(folder, device="cpu", max_tokens=wrong)


def test_what_goes_wrong_in_the_model_is_raised_as_it_was_and_the_model_is_as_before(folder: Path) -> None:
    import torch

    embedder = flag_embedder(folder, device="cpu")
    model = embedder._model.model
    expected = embedder.embed_query("a lantern")
    layer = model.model.encoder.layer[0]
    fault = layer.register_forward_hook(_raising(RuntimeError("the layer is broken")))
    with pytest.raises(RuntimeError, match="the layer is broken"):
        embedder.embed_documents(["a lantern", "a clock"])
    fault.remove()
    full = layer.register_forward_hook(_raising(torch.cuda.OutOfMemoryError("no memory")))
    with pytest.raises(torch.cuda.OutOfMemoryError, match="no memory") as caught:
        embedder.embed_query("a lantern")
    assert "a single text of 4 tokens" in caught.value.__notes__[0].lower()
    full.remove()
    assert "forward" not in vars(model)
    assert embedder.embed_query("a lantern") == expected


def _raising(error: Exception) -> Any:
    def hook(module: Any, inputs: Any, outputs: Any) -> None:
        raise error

    return hook


def test_where_memory_runs_out_fewer_texts_are_taken_at_once(folder: Path) -> None:
    import torch

    embedder = flag_embedder(folder, device="cpu", batch_size=8)
    expected = embedder.embed_documents(TEXTS)
    rows: list[int] = []

    def scarce(module: Any, inputs: Any, outputs: Any) -> None:
        rows.append(len(outputs if isinstance(outputs, torch.Tensor) else outputs[0]))
        if rows[-1] > 2:
            raise torch.cuda.OutOfMemoryError("more than two")

    hook = embedder._model.model.model.encoder.layer[0].register_forward_hook(scarce)
    assert np.array(embedder.embed_documents(TEXTS)) == pytest.approx(np.array(expected), abs=1e-5)
    hook.remove()
    assert max(rows) > 2


def test_the_trial_that_the_library_makes_is_not_computed_again(folder: Path) -> None:
    embedder = flag_embedder(folder, device="cpu")
    calls: list[int] = []
    embedder._model.model.model.register_forward_hook(lambda *_: calls.append(1))
    embedder.embed_query("a lantern")
    assert len(calls) == 1
    embedder.embed_documents(["a lantern", "a clock"])
    assert len(calls) == 2


def test_a_guard_gives_back_a_forward_that_was_set_on_the_object() -> None:
    import torch

    class Doubling(torch.nn.Module):
        def forward(self, number: Any) -> Any:
            return number * 2

    module = Doubling()
    own = module.forward
    module.forward = own  # type: ignore[method-assign]
    with guarded(module):
        assert module.forward is not own
        assert module(torch.tensor(2)) == 4
        assert module(torch.tensor(3)) == 6
    assert vars(module)["forward"] is own


def test_nothing_is_shown_whatever_the_number_of_texts(
    folder: Path, scoring: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    embedder = flag_embedder(folder, device="cpu", batch_size=2)
    embedder.embed_documents(TEXTS)
    flag_reranker(scoring, device="cpu", batch_size=2)("who", TEXTS)
    assert "%|" not in "".join(capfd.readouterr())


def test_many_threads_get_what_one_gets(embedder: FlagEmbedder) -> None:
    texts = [f"the lantern {'clock ' * (number % 9)}" for number in range(40)]
    expected = [embedder.embed_query(text) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        counts = pool.map(embedder.count_tokens, texts)
        assert [*pool.map(embedder.embed_query, texts)] == expected
    assert [*counts] == [3 + 1 + number % 9 for number in range(40)]


def test_weights_from_random_numbers_are_refused_and_vectors_are_not(tmp_path: Path) -> None:
    bare = flag_embedder(write_encoder(tmp_path / "bare", heads=False), device="cpu")
    assert len(bare.embed_query("a lantern")) == 32
    for ask in (
        lambda: bare.lexical_query("a lantern"),
        lambda: bare.encode(["a"]),
        lambda: bare.colbert_scores("a", ["b"]),
    ):
        with pytest.raises(InputError, match=r"no sparse_linear\.pt and no colbert_linear\.pt.*random"):
            ask()


def test_other_embedders_of_the_library_give_vectors_with_their_instructions_and_no_weights(
    folder: Path,
) -> None:
    model = library.FlagModel(
        str(folder),
        devices="cpu",
        use_fp16=False,
        query_instruction_for_retrieval="where is ",
        passage_instruction_for_retrieval="the ",
    )
    embedder = flag_embedder(model)
    assert embedder.embed_query("lantern") == pytest.approx(model.encode_queries(["lantern"])[0], abs=1e-6)
    assert embedder.embed_documents(["lantern"])[0] == pytest.approx(
        model.encode_corpus(["lantern"])[0], abs=1e-6
    )
    assert embedder.count_tokens("lantern") == 4
    with pytest.raises(InputError, match="has no lexical weights"):
        embedder.lexical_query("lantern")


def test_scores_of_the_reranker_are_those_of_the_library_in_the_order_of_the_passages(
    reranker: FlagScorer, scoring: Path
) -> None:
    model = library.FlagReranker(str(scoring), devices="cpu", use_fp16=False)
    pairs = [("who mends the clock", text) for text in TEXTS]
    expected = model.compute_score(pairs, max_length=POSITIONS)
    assert reranker("who mends the clock", TEXTS) == pytest.approx(expected, abs=1e-4)
    assert len(set(reranker("who mends the clock", TEXTS))) == len(TEXTS)
    assert as_reranker(model)("who", TEXTS) == pytest.approx(reranker("who", TEXTS), abs=1e-4)
    with pytest.raises(AttributeError):
        model.compute_score([("who", "lantern " * 90)])
    long = reranker("who", ["lantern " * 90, "clock"])
    assert long[0] == pytest.approx(reranker("who", ["lantern " * 60])[0], abs=1e-4)
    assert len(reranker("lantern " * 90, ["clock"])) == 1
    found = ordered("who", TEXTS[:2], reranker)
    assert {ordinal for ordinal, _ in found} == {0, 1}
    assert found[0][1] > found[1][1]


def test_wrong_models_and_arguments_are_clear_errors(folder: Path, scoring: Path, original: Any) -> None:
    several = library.BGEM3FlagModel(str(folder), devices=["cpu", "cpu"], use_fp16=False)
    with pytest.raises(InputError, match="made for the devices cpu, cpu"):
        flag_embedder(several)
    with pytest.raises(InputError, match="half is True on a CPU"):
        flag_embedder(folder, device="cpu", half=True)
    with pytest.raises(InputError, match="beside an object"):
        flag_embedder(original, device="cpu")
    with pytest.raises(InputError, match="is a int; expected the name or folder"):
        flag_embedder(7)
    with pytest.raises(InputError, match="is a M3Embedder; expected a name, a folder, or a re-ranker"):
        flag_reranker(original)
    with pytest.raises(InputError, match=r"is an embedder.*colbert_scores"):
        as_reranker(original)
    with pytest.raises(InputError, match="batch_size is 0"):
        flag_reranker(scoring, device="cpu", batch_size=0)
    with pytest.raises(InputError, match="one text where a list"):
        flag_embedder(original).lexical_documents("lantern")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "FlagEmbedding", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'memorag-adapters\[flag\]'"):
        flag_embedder("BAAI/bge-m3")
    with pytest.raises(MissingExtraError, match=r"memorag-adapters\[flag\]"):
        flag_reranker("BAAI/bge-reranker-v2-m3")
