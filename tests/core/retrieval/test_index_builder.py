"""An index that was kept is the one that was made, and no text is encoded or read for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError, StoreError
from memorag_core.retrieval import IndexMaker, VectorSettings, find_entities
from memorag_core.retrieval.index import EvidenceIndex
from memorag_core.retrieval.index_builder import Kept
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Clue
from tests.core.retrieval.conftest import HashedWords, chunks_of, corpora, sentences
from tests.core.retrieval.weighing import BothAtOnce, WeighedWords

ROOT = Path(__file__).parents[3]
TOWN = chunks_of(["Mara Venn repairs timepieces.", "The harbour freezes.", "Tobias Reed sells clocks."])
ALL = RetrievalSettings(retriever_weights={"learned_sparse": 1, "graph": 1})
HNSW = VectorSettings(kind="hnsw", tail_share=0.5, dead_share=0.5)


def capitals(text: str) -> list[str]:
    return [word for word in text.split() if word[0].isupper()]


def through_json(kept: dict[str, Kept]) -> dict[str, Kept]:
    return {name: (arrays, json.loads(json.dumps(header))) for name, (arrays, header) in kept.items()}


def again(maker: IndexMaker, index: EvidenceIndex) -> EvidenceIndex:
    return maker.unpacked(index.chunks, index.vectors, through_json(maker.packed(index)))


@given(corpora, corpora, sentences.filter(str.strip), st.sampled_from([VectorSettings(), HNSW]))
def test_what_was_kept_finds_what_was_made_before_and_after_a_change(
    before: list[str], after: list[str], question: str, vectors: VectorSettings
) -> None:
    maker = IndexMaker(
        BothAtOnce(), learned_sparse=True, entities=find_entities, vectors=vectors, progress=False
    )
    made = maker.index(chunks_of(before))
    for index in (made, maker.index(chunks_of(after), made)):
        kept = again(maker, index)
        k = len(index.chunks)
        clues = [Clue("lantern harbour", "span")]
        assert kept.retrieve(question, clues, k=k, settings=ALL) == index.retrieve(
            question, clues, k=k, settings=ALL
        )
        assert kept.dense is not None
        assert index.dense is not None
        assert kept.dense.kind == index.dense.kind


def test_nothing_is_encoded_again_but_the_first_chunk() -> None:
    embedder = BothAtOnce()
    maker = IndexMaker(embedder, learned_sparse=True, entities=find_entities, vectors=HNSW)
    index = maker.index(TOWN)
    assert set(maker.packed(index)) == {"dense", "lexical", "graph"}
    again(maker, index)
    assert (embedder.passes, embedder.calls, embedder.weighed) == ([3], [1], [])  # 1: is it the same embedder


def test_of_flat_vectors_the_store_needs_no_more_than_the_vectors() -> None:
    maker = IndexMaker(HashedWords())
    assert maker.packed(maker.index(TOWN)) == {}
    assert IndexMaker().packed(IndexMaker().index(TOWN)) == {}


def test_what_was_not_kept_is_made_and_what_is_not_wanted_is_left() -> None:
    plain = IndexMaker(BothAtOnce())
    full = IndexMaker(BothAtOnce(), learned_sparse=True, entities=find_entities)
    made = full.index(TOWN)
    grown = full.unpacked(TOWN, made.vectors, {})
    assert grown.retrieve("clocks", k=3, settings=ALL) == made.retrieve("clocks", k=3, settings=ALL)
    nothing_kept = full.unpacked(TOWN, None, {})
    assert nothing_kept.retrieve("clocks", k=3, settings=ALL) == made.retrieve("clocks", k=3, settings=ALL)
    embedder = full.embedder
    assert isinstance(embedder, BothAtOnce)
    assert embedder.passes == [3, 3]  # both in one pass, when neither was there
    shrunk = plain.unpacked(TOWN, made.vectors, full.packed(made))
    assert (shrunk.learned_sparse, shrunk.graph) == (None, None)


def test_another_kind_of_search_is_built_from_the_vectors() -> None:
    made = IndexMaker(HashedWords(), vectors=HNSW).index(TOWN)
    kept = IndexMaker(HashedWords(), vectors=HNSW).packed(made)
    flat = IndexMaker(HashedWords(), vectors=VectorSettings(kind="flat")).unpacked(TOWN, made.vectors, kept)
    assert flat.dense is not None
    assert flat.dense.kind == "flat"


def test_weights_of_another_encoder_are_refused() -> None:
    maker = IndexMaker(WeighedWords(name="one"), learned_sparse=True)
    made = maker.index(TOWN)
    other = IndexMaker(WeighedWords(name="other"), learned_sparse=True)
    with pytest.raises(StoreError, match="lexical weights were made by"):
        other.unpacked(TOWN, made.vectors, maker.packed(made))


def test_a_graph_of_ones_own_finder_asks_for_it_and_one_can_take_the_place_of_the_built_in() -> None:
    own, built_in = IndexMaker(entities=capitals), IndexMaker(entities=find_entities)
    kept = through_json(own.packed(own.index(TOWN)))
    assert own.unpacked(TOWN, None, kept).graph is not None
    with pytest.raises(InputError, match=r"finder of your own.*entities=\.\.\."):
        built_in.unpacked(TOWN, None, kept)
    replaced = own.unpacked(TOWN, None, built_in.packed(built_in.index(TOWN))).graph
    assert replaced is not None
    assert replaced.entities(0) == ("mara", "venn")


def test_a_graph_kept_by_another_rule_of_words_is_made_anew_or_spelled_anew() -> None:
    chunks = chunks_of(["Ἀθῆναι and Acknowl\u00adedgement.", "Αθηναι, acknowledgement.", "Nothing."])

    def words(text: str) -> list[str]:
        return text.split()

    for finder in (find_entities, words):
        maker = IndexMaker(entities=finder)
        kept = through_json(maker.packed(maker.index(chunks)))
        header = dict(kept["graph"][1])
        names = ["ἀθῆναι", "acknowl", "edg", "and", "αθηναι,", "nothing"]
        old = {
            "entity_offsets": np.array([0, 4, 5, 6]),
            "entity_numbers": np.arange(6, dtype=np.int32),
            "entity_names": np.frombuffer("\n".join(names).encode(), dtype=np.uint8),
        }
        assert header.pop("rule") == 2
        kept["graph"] = old, {**header, "entities": 6}

        def no_more(text: str) -> list[str]:
            raise AssertionError(f"was asked about {text!r}")

        opener = maker if finder is find_entities else IndexMaker(entities=no_more)
        graph = opener.unpacked(chunks, None, kept).graph
        assert graph is not None
        assert "αθηναι" in graph.entities(0)
        assert "αθηναι" in graph.entities(1)
        if finder is find_entities:
            assert graph.entities(0) == maker.index(chunks).graph.entities(0)  # type: ignore[union-attr]


@pytest.mark.parametrize("part", ["dense", "lexical", "graph"])
def test_a_part_that_is_damaged_is_refused(part: str) -> None:
    maker = IndexMaker(BothAtOnce(), learned_sparse=True, entities=find_entities, vectors=HNSW)
    index = maker.index(TOWN)
    kept: dict[str, Any] = dict(maker.packed(index))
    arrays, header = kept[part]
    kept[part] = ({name: np.array(array)[:1] for name, array in arrays.items()}, header)
    with pytest.raises(StoreError):
        maker.unpacked(TOWN, index.vectors, kept)


def test_a_choice_that_cannot_be_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="a HashedWords gives none"):
        IndexMaker(HashedWords(), learned_sparse=True)
    with pytest.raises(InputError, match="tokenization is 'words'"):
        IndexMaker(tokenization="words")  # type: ignore[arg-type]


def test_without_faiss_an_embedder_works_by_numpy() -> None:
    program = (
        "import sys; sys.modules['faiss'] = None\n"
        "from memorag_core.retrieval import IndexMaker\n"
        "from tests.core.retrieval.conftest import HashedWords, chunks_of\n"
        "index = IndexMaker(HashedWords()).index(chunks_of(['a lantern', 'a boat']))\n"
        "print(index.dense.backend, index.retrieve('lantern', k=1)[0].chunk.text)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[0] == "numpy a lantern"
