from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.retrieval.tokenization import left_out_tokens, lexical_tokens, sudachi_is_installed
from tests.core.retrieval.conftest import chunks_of, corpora, sentences


def bm25_by_hand(texts: list[str], query: str) -> list[float]:
    """BM25 as in the books, term by term: k1 1.5, b 0.75, idf ln(1 + (N - n + 0.5) / (n + 0.5))."""
    tokens_of = lexical_tokens if lexical_tokens(query) else left_out_tokens
    rows = [tokens_of(text) for text in texts]
    mean = sum(map(len, rows)) / len(rows) or 1.0
    scores = []
    for row in rows:
        score = 0.0
        for term in tokens_of(query):
            holders = sum(term in other for other in rows)
            if count := row.count(term):
                idf = math.log(1 + (len(rows) - holders + 0.5) / (holders + 0.5))
                score += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(row) / mean))
        scores.append(score)
    return scores


@given(corpora, sentences)
def test_scores_are_those_of_the_formula_and_zero_is_no_hit(texts: list[str], query: str) -> None:
    (found,) = BM25Index.build(chunks_of(texts)).search([query], len(texts))
    expected = {ordinal: score for ordinal, score in enumerate(bm25_by_hand(texts, query)) if score > 0}
    assert dict(found) == pytest.approx(expected, rel=1e-5)


@given(corpora, sentences, st.integers(1, 15))
def test_the_k_best_are_the_first_k_of_all_best_first_and_ties_by_ordinal(
    texts: list[str], query: str, k: int
) -> None:
    index = BM25Index.build(chunks_of(texts))
    (everything,), (best,) = index.search([query], len(texts)), index.search([query], k)
    assert everything == sorted(everything, key=lambda pair: (-pair[1], pair[0]))
    assert best == everything[:k]


@given(corpora, st.lists(sentences, max_size=5))
def test_many_queries_at_once_give_what_each_gives_alone(texts: list[str], queries: list[str]) -> None:
    index = BM25Index.build(chunks_of(texts))
    assert index.search(queries, 3) == [index.search([query], 3)[0] for query in queries]


@given(st.data(), corpora, sentences)
def test_chunks_in_another_order_keep_their_scores(data: st.DataObject, texts: list[str], query: str) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    (found,) = BM25Index.build(chunks_of(texts)).search([query], len(texts))
    (moved,) = BM25Index.build(chunks_of([texts[place] for place in order])).search([query], len(texts))
    assert {order[ordinal]: score for ordinal, score in moved} == dict(found)


def test_chinese_questions_find_chinese_passages() -> None:
    index = BM25Index.build(chunks_of(["她在港口修理灯笼。", "他在山上种茶。", "船长每天写信。"]))
    ((best, *_),) = index.search(["谁修理灯笼？"], 3)
    assert best[0] == 0


def test_a_query_without_a_known_word_finds_nothing() -> None:
    index = BM25Index.build(chunks_of(["a lantern", "a clock"]))
    assert index.search(["zebra", "who is it?", ""], 2) == [[], [], []]  # nor do the chunks hold these


def test_a_query_of_stop_words_alone_is_searched_by_them_and_by_how_they_stand_together() -> None:
    texts = ["It is the clock who knows.", "“Who is it?” she asked.", "A lantern burned.", "The Who"]
    index = BM25Index.build(chunks_of(texts))
    found = index.search(["Who is it?", "the", "About whom?", "Who’s there? …", "?!", "who lantern"], 4)
    assert [ordinal for ordinal, _ in found[0]] == [1, 0, 3]
    assert {ordinal for ordinal, _ in found[1]} == {0, 3}
    assert found[2] == []  # no chunk holds them
    assert {ordinal for ordinal, _ in found[3]} == {0, 1, 3}
    assert found[4] == []
    assert [ordinal for ordinal, _ in found[5]] == [2]  # with another word, stop words count for nothing


@given(corpora, st.lists(st.sampled_from(["who", "is", "it", "the", "lantern"]), max_size=4))
def test_stop_words_change_nothing_for_queries_with_other_words(texts: list[str], words: list[str]) -> None:
    index = BM25Index.build(chunks_of(texts))
    query = " ".join([*words, "lantern"])
    before = index.search([query], 5)
    index.search(["who is it"], 5)
    assert (
        index.search([query], 5) == before == index.search(["lantern " * query.split().count("lantern")], 5)
    )


def test_chunks_without_a_single_token_can_be_indexed_and_find_nothing() -> None:
    assert BM25Index.build(chunks_of(["...", "the"])).search(["lantern"], 2) == [[]]


def test_no_queries_give_no_rankings() -> None:
    assert BM25Index.build(chunks_of(["a lantern"])).search([], 1) == []


def test_a_ranking_handed_out_can_be_changed_without_changing_another() -> None:
    first, second = BM25Index.build(chunks_of(["a lantern"])).search(["lantern", "lantern"], 1)
    first.clear()
    assert second


def test_indexing_nothing_and_asking_for_nothing_are_clear_errors() -> None:
    with pytest.raises(InputError, match="no chunks to index"):
        BM25Index.build(())
    with pytest.raises(InputError, match="k is 0"):
        BM25Index.build(chunks_of(["a lantern"])).search(["lantern"], 0)


def test_building_and_searching_write_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    BM25Index.build(chunks_of(["a lantern", "a clock"])).search(["lantern", "clock"], 2)
    assert capfd.readouterr() == ("", "")


def test_scores_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    program = (
        "from memorag_core.types import Chunk\n"
        "from memorag_core.retrieval.bm25 import BM25Index\n"
        "words = [f'w{n} w{n * 7 % 11} harbour lantern clock' for n in range(40)]\n"
        "index = BM25Index.build([Chunk(str(n), text, '0', 0, 1) for n, text in enumerate(words)])\n"
        "print(index.vocabulary, index.search(['w3 w5 lantern harbour clock w1'], 40))\n"
    )

    def run(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    assert run("1") == run("2") != ""


@pytest.mark.skipif(not sudachi_is_installed(), reason="the extra 'ja' is not installed")
def test_a_query_of_japanese_particles_alone_finds_what_holds_them() -> None:
    index = BM25Index.build(chunks_of(["港を見た", "茶"]), tokenization="japanese")
    assert [ordinal for ordinal, _ in index.search(["にを"], 2)[0]] == [0]


@pytest.mark.skipif(not sudachi_is_installed(), reason="the extra 'ja' is not installed")
def test_queries_are_cut_as_the_chunks_were() -> None:
    chunks = chunks_of(["京都府の茶", "東京都の港"])
    words = BM25Index.build(chunks, tokenization="japanese")
    grams = BM25Index.build(chunks)
    assert (words.tokenization, grams.tokenization) == ("japanese", "grams")
    assert [ordinal for ordinal, _ in words.search(["京都へ"], 2)[0]] == [0]
    assert len(grams.search(["京都へ"], 2)[0]) == 2  # the pair stands in both
    assert BM25Index.build(chunks_of(["これは"]), tokenization="japanese").tokenization == "japanese"
