"""The whole story: what is memorized is found again, with its place; what fails changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import (
    ChunkSettings,
    Clue,
    ClueSettings,
    Document,
    Evidence,
    InputError,
    MemoRAG,
    NothingMemorizedError,
    RetrievalSettings,
    StoreError,
)
from memorag_core.protocols import ShowProgress
from tests.core.doubles import SentenceMemory, SentenceModel, WordEmbedder, write_beacon_checkpoint

TOWN = Document(
    "The market opens at seven. Bread is sold out by nine. "
    "Mara Venn repairs timepieces in Orrin. She learned it from her aunt. "
    "The river floods every other spring. Boats are kept in barns then. "
    "Ilan Dorr heals the sick of the valley. He walks from farm to farm.",
    id="town",
    metadata={"page": 12},
)
SEA = Document("The lighthouse of Pell burns oil. Its keeper, Una Rask, fixes nets in winter.", id="sea")
WHO = "Which person would mend a broken clock?"


def _memorag(model: Any = None, **options: Any) -> MemoRAG:
    return MemoRAG(model or SentenceModel(), chunks=ChunkSettings(size=60), **options)


@pytest.fixture
def town() -> MemoRAG:
    return _memorag().memorize(TOWN)


# One question from beginning to end


def test_a_question_that_shares_no_word_with_its_evidence_finds_it_through_a_clue(town: MemoRAG) -> None:
    (clue,) = (clue for clue in town.clues(WHO, kinds=["span"]) if "Mara" in clue.text)
    first = town.retrieve(WHO, k=1)[0]
    assert "Mara Venn" in first.chunk.text
    assert clue.text in first.clues
    assert "Mara Venn" not in town.retrieve(WHO, k=1, clues=[])[0].chunk.text


def test_evidence_says_where_it_stands_and_whose_it_is(town: MemoRAG) -> None:
    for rank, evidence in enumerate(town.retrieve(WHO, k=3), start=1):
        chunk = evidence.chunk
        assert chunk.text == TOWN.text[chunk.start : chunk.end]
        assert (chunk.document_id, chunk.metadata, evidence.rank) == ("town", {"page": 12}, rank)


def test_the_users_generator_gets_numbered_evidence_and_gives_the_answer(town: MemoRAG) -> None:
    prompts: list[str] = []

    def generate(prompt: str) -> str:
        prompts.append(prompt)
        return "Mara Venn."

    answer = town.answer(WHO, generate, k=2)
    assert (answer.text, answer.source, answer.question) == ("Mara Venn.", "generator", WHO)
    assert answer.clues == town.clues(WHO)
    assert answer.evidence == town.retrieve(WHO, k=2)
    (prompt,) = prompts
    assert WHO in prompt
    for evidence in answer.evidence:
        assert evidence.chunk.text in prompt


def test_without_a_generator_the_memory_drafts_the_answer_and_is_named(town: MemoRAG) -> None:
    answer = town.answer(WHO)
    assert answer.source == "memory"
    assert answer.text == "Mara Venn repairs timepieces in Orrin."
    assert len(answer.evidence) == RetrievalSettings().k


def test_a_draft_is_asked_for_even_where_it_is_no_kind_of_clue() -> None:
    memorag = _memorag(clues=ClueSettings(kinds=("span",))).memorize(TOWN)
    answer = memorag.answer(WHO)
    assert "Mara Venn" in answer.text
    assert [clue.kind for clue in answer.clues][-1] == "answer"
    assert {clue.kind for clue in memorag.clues(WHO)} == {"span"}


def test_a_chinese_text_is_asked_and_answered_in_chinese() -> None:
    text = "市场七点开门。老王是镇上的大夫，住在河边。面包九点卖完。春天河水会涨。"
    memorag = MemoRAG(SentenceModel(), chunks=ChunkSettings(size=12)).memorize(text)
    prompts: list[str] = []

    def generate(prompt: str) -> str:
        prompts.append(prompt)
        return "老王"

    answer = memorag.answer("镇上的医者住在哪里？", generate, k=1)
    assert "大夫" in answer.evidence[0].chunk.text
    assert "Question" not in prompts[0]


def test_only_the_kinds_of_clue_that_were_asked_for_come_back(town: MemoRAG) -> None:
    assert {clue.kind for clue in town.clues(WHO, kinds=["query"])} == {"query"}
    assert {clue.kind for clue in town.clues(WHO)} <= set(ClueSettings().kinds)


def test_a_text_that_outgrows_one_part_is_asked_in_all_of_them() -> None:
    memorag = _memorag(SentenceModel(capacity=2)).memorize([TOWN, SEA])
    assert memorag.memory.parts == 5
    assert "Mara Venn" in memorag.retrieve(WHO, k=1)[0].chunk.text
    assert len({clue.part for clue in memorag.clues(WHO)}) > 1


def test_a_batch_of_questions_gives_what_each_gives_alone_with_one_request_a_kind() -> None:
    questions = [WHO, "Who cures people?", WHO, "When is there high water?"]
    model = SentenceModel()
    together = _memorag(model).memorize([TOWN, SEA]).retrieve_batch(questions, k=3)
    assert model.asked == 1
    alone = _memorag().memorize([TOWN, SEA])
    assert together == tuple(alone.retrieve(question, k=3) for question in questions)


def test_the_memory_is_asked_once_for_what_is_asked_again() -> None:
    model = SentenceModel()
    memorag = _memorag(model).memorize(TOWN)
    memorag.clues(WHO)
    asked = model.asked
    memorag.retrieve(WHO, k=1)
    memorag.answer(WHO)
    assert model.asked == asked
    memorag.memorize(SEA)
    memorag.clues(WHO)
    assert model.asked == 2 * asked


# Reading on


def test_what_is_memorized_later_is_added() -> None:
    memorag = _memorag().memorize(TOWN)
    before = memorag.memory
    assert memorag.memorize([SEA, "A text without a name."]) is memorag
    assert [document.id for document in memorag.documents] == ["town", "sea", "0"]
    assert {chunk.document_id for chunk in memorag.chunks} == {"town", "sea", "0"}
    assert "Una Rask" in memorag.retrieve("Who fixes nets?", k=1)[0].chunk.text
    assert "Mara Venn" in memorag.retrieve(WHO, k=1)[0].chunk.text
    assert before.tokens < memorag.memory.tokens  # the old memory is a value of its own


@given(cuts=st.sets(st.integers(1, 5)), embedded=st.booleans())
@settings(max_examples=15)
def test_documents_read_in_any_portions_give_what_reading_them_at_once_gives(
    cuts: set[int], embedded: bool
) -> None:
    documents = [
        Document(f"Clock number {n} hangs in hall {n}. It was mended by Mara.", f"d{n}") for n in range(6)
    ]
    edges = [0, *sorted(cuts), 6]

    def make() -> MemoRAG:
        return _memorag(embedder=WordEmbedder() if embedded else None)

    portions = make()
    for start, end in pairwise(edges):
        portions.memorize(documents[start:end])
    at_once = make().memorize(documents)
    assert portions.documents == at_once.documents
    assert portions.chunks == at_once.chunks
    assert portions.memory == at_once.memory
    assert portions.retrieve("Where is timepiece 3?", k=4) == at_once.retrieve("Where is timepiece 3?", k=4)


def test_a_chunk_is_encoded_once_however_often_more_is_read() -> None:
    embedder = WordEmbedder()
    memorag = _memorag(embedder=embedder).memorize(TOWN).memorize(SEA).memorize("More.")
    assert embedder.encoded == [chunk.text for chunk in memorag.chunks]


@pytest.mark.parametrize("text", ["", " \n", [], ["fine", ""], 7, [TOWN]])
def test_what_cannot_be_read_is_refused_and_changes_nothing(town: MemoRAG, text: Any) -> None:
    memory = town.memory
    with pytest.raises(InputError):
        town.memorize(text)
    assert town.documents == (TOWN,)
    assert town.memory is memory


class _Failing(SentenceModel):
    """Cannot read about the sea."""

    def memorize(
        self,
        text_or_documents: str | Sequence[Document],
        memory: SentenceMemory | None = None,
        *,
        progress: ShowProgress = None,
    ) -> SentenceMemory:
        if SEA in text_or_documents:
            raise MemoryError("out of memory")
        return super().memorize(text_or_documents, memory, progress=progress)


def test_a_reading_that_fails_half_way_changes_nothing_and_can_be_followed_by_another() -> None:
    memorag = _memorag(_Failing(), embedder=WordEmbedder()).memorize(TOWN)
    found = memorag.retrieve(WHO, k=3)
    with pytest.raises(MemoryError):
        memorag.memorize(SEA)
    assert memorag.documents == (TOWN,)
    assert memorag.retrieve(WHO, k=3) == found
    memorag.memorize("The mill burned down.")
    assert len(memorag.documents) == 2


def test_questions_asked_while_more_is_read_see_one_state_each() -> None:
    memorag = _memorag().memorize(TOWN)
    done = threading.Event()
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            while not done.is_set():
                documents = {document.id: document.text for document in memorag.documents}
                answer = memorag.answer(f"{WHO} ({number})", k=4)
                assert len(answer.evidence) == 4
                for evidence in answer.evidence:
                    chunk = evidence.chunk
                    text = documents.get(chunk.document_id)
                    assert text is None or text[chunk.start : chunk.end] == chunk.text
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for number in range(20):
        memorag.memorize(
            Document(f"Clock {number} stands still. Nobody mends clock {number}.", id=f"d{number}")
        )
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(memorag.documents) == 21


def test_two_threads_that_read_at_once_lose_nothing() -> None:
    memorag = _memorag()
    texts = [f"Clock {number} stands still." for number in range(12)]
    threads = [threading.Thread(target=memorag.memorize, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(document.text for document in memorag.documents) == sorted(texts)
    assert len({document.id for document in memorag.documents}) == 12


# What cannot be asked


@pytest.mark.parametrize(
    "use",
    [
        lambda memorag: memorag.clues(WHO),
        lambda memorag: memorag.retrieve(WHO),
        lambda memorag: memorag.retrieve_batch([WHO]),
        lambda memorag: memorag.answer(WHO),
        lambda memorag: memorag.save("nowhere"),
    ],
    ids=["clues", "retrieve", "retrieve_batch", "answer", "save"],
)
def test_before_anything_is_memorized_every_use_says_what_to_do(use: Callable[[MemoRAG], object]) -> None:
    memorag = _memorag()
    assert (memorag.documents, memorag.chunks, memorag.memory) == ((), (), None)
    with pytest.raises(NothingMemorizedError, match=r"memorize\(text\)"):
        use(memorag)


@pytest.mark.parametrize("k", [0, -1, 10_000])
def test_a_k_that_cannot_be_had_is_refused_before_the_memory_is_asked(k: int) -> None:
    model = SentenceModel()
    memorag = _memorag(model).memorize(TOWN)
    asks: list[Callable[[], object]] = [
        lambda: memorag.retrieve(WHO, k=k),
        lambda: memorag.retrieve_batch([WHO], k=k),
        lambda: memorag.answer(WHO, k=k),
    ]
    for ask in asks:
        with pytest.raises(InputError, match=str(k)):
            ask()
    assert model.asked == 0


def test_without_a_k_a_short_text_gives_all_its_chunks() -> None:
    memorag = _memorag().memorize("One clock.")
    assert len(memorag.retrieve("Which clock?")) == 1
    with pytest.raises(InputError, match="4"):
        memorag.retrieve("Which clock?", k=4)


@pytest.mark.parametrize("question", ["", "  ", None, 5])
def test_a_question_without_words_is_refused(town: MemoRAG, question: Any) -> None:
    for ask in (town.clues, town.retrieve, town.answer):
        with pytest.raises(InputError):
            ask(question)


def test_one_text_in_place_of_a_batch_of_questions_is_refused(town: MemoRAG) -> None:
    with pytest.raises(InputError, match="list of texts"):
        town.retrieve_batch(WHO)


def test_a_model_that_is_none_and_options_that_come_too_late_are_refused() -> None:
    with pytest.raises(InputError, match="memory model"):
        MemoRAG(object())  # type: ignore[arg-type]
    for options in ({"ratio": 8}, {"device": "cpu"}, {"dtype": "float32"}):
        with pytest.raises(InputError, match="where it is loaded"):
            MemoRAG(SentenceModel(), **options)


# Kept on disk


def _state(memorag: MemoRAG) -> tuple[object, ...]:
    return memorag.documents, memorag.chunks, memorag.memory


def _found(memorag: MemoRAG) -> tuple[tuple[Clue, ...], tuple[Evidence, ...]]:
    return memorag.clues(WHO), memorag.retrieve(WHO, k=4)


@pytest.mark.parametrize("embedded", [False, True])
def test_what_is_loaded_answers_as_what_was_saved_and_reads_on(tmp_path: Path, embedded: bool) -> None:
    embedder = WordEmbedder() if embedded else None
    saved = _memorag(embedder=embedder).memorize([TOWN, SEA])
    saved.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=embedder)
    assert _state(loaded) == _state(saved)
    assert _found(loaded) == _found(saved)
    for memorag in (saved, loaded):
        memorag.memorize("Ott mends clocks too. He lives by the sea.")
    assert _state(loaded) == _state(saved)
    assert _found(loaded) == _found(saved)
    loaded.save(tmp_path / "store")
    again = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=embedder)
    assert _found(again) == _found(saved)


def test_settings_come_back_unless_others_are_given(tmp_path: Path) -> None:
    saved = MemoRAG(
        SentenceModel(),
        chunks=ChunkSettings(size=40),
        clues=ClueSettings(kinds=("query",), per_kind=1, language="en"),
        retrieval=RetrievalSettings(k=2, question_weight=0.25),
    ).memorize(TOWN)
    saved.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel())
    assert _found(loaded) == _found(saved)
    assert len(loaded.retrieve(WHO)) == 2
    assert max(len(chunk.text) for chunk in loaded.memorize(SEA).chunks) <= 40
    other = MemoRAG.load(tmp_path / "store", SentenceModel(), retrieval=RetrievalSettings(k=3))
    assert len(other.retrieve(WHO)) == 3
    assert {clue.kind for clue in other.clues(WHO)} == {"query"}


def test_a_memory_of_another_model_is_refused(town: MemoRAG, tmp_path: Path) -> None:
    town.save(tmp_path / "store")
    with pytest.raises(StoreError, match=r"settings\.capacity is 3 in the model and 8 in the store"):
        MemoRAG.load(tmp_path / "store", SentenceModel(capacity=3))


def test_saved_vectors_need_the_embedder_that_made_them(tmp_path: Path) -> None:
    _memorag(embedder=WordEmbedder()).memorize(TOWN).save(tmp_path / "store")
    with pytest.raises(InputError, match="no embedder was given"):
        MemoRAG.load(tmp_path / "store", SentenceModel())
    for stranger in (WordEmbedder(salt="x"), WordEmbedder(size=32)):
        with pytest.raises(StoreError, match="another embedder"):
            MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=stranger)
    embedder = WordEmbedder()
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=embedder)
    assert embedder.encoded == [loaded.chunks[0].text]  # to see whether it is the same one; no more


def test_an_embedder_can_be_added_to_a_store_without_vectors(town: MemoRAG, tmp_path: Path) -> None:
    town.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=WordEmbedder())
    assert {hit.retriever for evidence in loaded.retrieve(WHO) for hit in evidence.hits} == {"bm25", "dense"}


# With a beacon model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beacon_checkpoint(tmp_path_factory.mktemp("model"))


def _bits(memorag: MemoRAG) -> tuple[dict[str, bytes], object]:
    tensors, header = memorag.model.pack(memorag.memory)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, header


def test_a_beacon_memory_in_parts_comes_back_from_disk_with_the_same_bits_and_reads_on(
    checkpoint: Path, tmp_path: Path
) -> None:
    saved = _memorag(checkpoint, ratio=8, progress=False).memorize(TOWN)
    assert saved.memory.parts > 2
    saved.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", checkpoint, progress=False)  # at the saved ratio
    assert _bits(loaded) == _bits(saved)
    assert _found(loaded) == _found(saved)
    saved.memorize(SEA)
    loaded.memorize(SEA)
    assert _bits(loaded) == _bits(saved)
    assert _found(loaded) == _found(saved)


def test_a_beacon_memory_is_refused_by_other_weights_and_at_another_ratio(
    checkpoint: Path, tmp_path: Path
) -> None:
    _memorag(checkpoint, progress=False).memorize(TOWN).save(tmp_path / "store")
    other = write_beacon_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(StoreError, match="weights"):
        MemoRAG.load(tmp_path / "store", other)
    with pytest.raises(StoreError, match="ratio"):
        MemoRAG.load(tmp_path / "store", checkpoint, ratio=8)


# With the bundled model


@pytest.fixture(scope="module")
def bundled() -> MemoRAG:
    return MemoRAG(device="cpu", progress=False).memorize([TOWN, SEA])


def test_the_bundled_model_reads_recalls_and_answers_by_itself(bundled: MemoRAG) -> None:
    assert bundled.memory.tokens > 50
    answer = bundled.answer("Who repairs timepieces in Orrin?", k=1)
    assert answer.source == "memory"
    assert "Mara Venn" in answer.evidence[0].chunk.text
    assert answer.clues


def test_the_bundled_models_memory_comes_back_from_disk_and_recalls_the_same(
    bundled: MemoRAG, tmp_path: Path
) -> None:
    bundled.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", device="cpu", progress=False)
    assert loaded.documents == bundled.documents
    assert loaded.chunks == bundled.chunks
    for question in (WHO, "Who is the keeper of the lighthouse?"):
        assert loaded.clues(question) == bundled.clues(question)
        assert loaded.retrieve(question, k=1) == bundled.retrieve(question, k=1)
