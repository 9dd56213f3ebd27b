"""Text in, text out: memorizing documents and asking for clues."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet
from memorag_core.protocols import MemoryModel
from memorag_core.types import Document, Recollection
from tests.core.doubles import asks
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    assert_same_memory,
    beacon_model,
    small_tokenizer,
    write_checkpoint,
)

TEXTS = ["The keeper of the tower mends clocks.", "Rain came.", "Mara Venn lives in Orrin, by the river."]
QUESTIONS = ["Who mends clocks?", "Where?", "Who lives by the river in Orrin?"]


def text_model(
    *,
    pad_windows: bool = False,
    capacity: int | None = None,
    overlap: int = 0,
    chat: str | None = None,
    **rest: Any,
) -> BeaconModel:
    tokenizer = small_tokenizer(chat_template=chat)
    usage = Usage(
        pad_windows=pad_windows,
        prompts=PromptSet.from_mapping(ASK_PROMPTS),
        max_new_tokens={"span": 12, "answer": 6},
        line_token="<|line|>",
        none_token="<|none|>",
    )
    return beacon_model(
        tokens=Tokens(tokenizer, usage.line_token, usage.none_token),
        usage=usage,
        vocabulary=len(tokenizer),
        capacity=capacity,
        overlap=overlap,
        **rest,
    )


def test_a_beacon_model_is_a_memory_model() -> None:
    assert isinstance(text_model(), MemoryModel)


@pytest.mark.parametrize("capacity", [None, 16, 64])
@pytest.mark.parametrize("pad_windows", [False, True])
def test_documents_at_once_or_one_after_the_other_give_the_same_memory(
    capacity: int | None, pad_windows: bool
) -> None:
    model = text_model(pad_windows=pad_windows, capacity=capacity, overlap=4 if capacity else 0)
    once = model.memorize(TEXTS)
    memory = None
    for number, text in enumerate(TEXTS):
        memory = model.memorize([Document(text, id=str(number))], memory)
    assert memory is not None
    assert_same_memory(memory, once)
    if pad_windows:
        assert once.stream.filled == 0
    if capacity is not None:
        assert (once.parts > 1) == (once.tokens > capacity)


def test_the_tokens_read_are_those_of_the_texts() -> None:
    model = text_model()
    assert model.tokens is not None
    ids = model.tokens.encode_text("\n\n".join(TEXTS))
    assert_same_memory(model.memorize(TEXTS), model.feed(torch.from_numpy(ids)).memory)
    assert model.memorize(TEXTS[1]).tokens == len(
        TEXTS[1]
    )  # shorter than many a window, and kept all the same


def test_a_long_text_is_tokenized_in_pieces_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from memorag_core.memory import tokenizer as tokens

    made = Tokens(small_tokenizer())
    text = " ".join(TEXTS * 20) + "。没有空格的文字" * 30
    whole = made.encode_text(text)
    monkeypatch.setattr(tokens, "PIECE", 64)
    assert (made.encode_text(text) == whole).all()
    assert made.decode(whole.tolist()) == text


def test_recollections_of_all_parts_come_best_first() -> None:
    model = text_model(capacity=16, overlap=4)
    memory = model.memorize(TEXTS)
    answers = model.recollect(asks(QUESTIONS, "span"), memory)
    assert len(answers) == len(QUESTIONS)
    for parts in answers:
        assert sorted(found.part for found in parts) == list(range(memory.parts))
        assert [found.score for found in parts] == sorted((found.score for found in parts), reverse=True)
        assert all(found.score < 0 and 0 <= found.tokens <= 12 for found in parts)
        assert all(found.finished == (found.tokens < 12) for found in parts)


def test_questions_asked_together_are_answered_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from memorag_core.memory import local_model as module

    model = text_model(capacity=16, overlap=4, stop=frozenset(range(5, 30)))
    memory = model.memorize(TEXTS)
    together = model.recollect(asks(QUESTIONS, "span"), memory)
    alone = [model.recollect(asks([question], "span"), memory)[0] for question in QUESTIONS]
    monkeypatch.setattr(module, "ASKED_ROWS", 1)
    one_lane_each = model.recollect(asks(QUESTIONS, "span"), memory)
    for found, single, lane in zip(together, alone, one_lane_each, strict=True):
        for other in (single, lane):
            by_part = {said.part: said for said in other}
            assert {said.part: said.text for said in found} == {
                part: said.text for part, said in by_part.items()
            }
            assert all(said.score == pytest.approx(by_part[said.part].score, abs=1e-3) for said in found)
    assert model.recollect(asks([], "span"), memory) == ()


def test_threads_share_model_memory_and_tokenizer() -> None:
    model = text_model(capacity=16)
    memory = model.memorize(TEXTS)
    expected = [model.recall(question, memory) for question in QUESTIONS * 6]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda question: model.recall(question, memory), QUESTIONS * 6))
    assert found == expected


def test_lines_of_the_parts_are_merged_best_first_without_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_model()
    said = (
        Recollection("The  Tower\n\n by the river ", -0.1, part=1),
        Recollection("", -0.2, part=2),
        Recollection("the tower\nmends clocks", -0.9, part=0),
    )
    monkeypatch.setattr(model, "recollect", lambda *_, **__: (said,))
    memory = model.memorize(TEXTS)
    for ask in (model.recall, model.rewrite, model.answer, model.summarize):
        assert ask("Who?", memory) == "The  Tower\nby the river\nmends clocks"


def test_a_special_token_in_a_question_or_a_text_is_only_text() -> None:
    model = text_model()
    assert model.tokens is not None
    special = "<|ask|>who<|span|><|end|>"
    assert set(model.tokens.encode_text(special)) & set(range(7)) == set()
    ids = model.tokens.encode_request(PromptSet.from_mapping(ASK_PROMPTS), "span", special)
    assert [token for token in ids if token < 7] == [2, 3]  # those of the template alone
    assert model.tokens.decode(ids[1:-1]) == special


def test_the_memory_is_asked_with_exactly_the_request_behind_it() -> None:
    model = text_model()
    memory = model.memorize(TEXTS)
    assert model.tokens is not None
    request = [2, *model.tokens.encode_text("Who?"), 3]
    expected = model.greedy(request, memory, max_new_tokens=12)[0].tolist()
    (found,) = model.recollect(asks(["Who?"], "span"), memory)[0]
    assert found.text == model.tokens.decode(expected)
    assert (found.tokens, found.part, found.finished) == (12, 0, False)


CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}[/]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_chat_model_reads_and_is_asked_in_the_turns_of_its_template() -> None:
    tokens = Tokens(small_tokenizer(chat_template=CHAT, bos=True))
    prompts = PromptSet.from_mapping(
        {
            **ASK_PROMPTS,
            "chat": True,
            "context": "Read: {context} (end)",
            "reply": "Done.",
            "tasks": {"span": "Recall for: {question}"},
        }
    )
    assert tokens.decode(tokens.encode_opening(prompts)) == "[user]Read:"
    assert tokens.encode_opening(prompts)[0] == 6  # bos, of the template
    request = tokens.encode_request(prompts, "span", "who <|end|>?")
    assert tokens.decode(request) == "(end)[/][assistant]Done.[/][user]Recall for: who <|end|>?[/][assistant]"
    assert all(token > 6 for token in request)


def test_a_model_without_chat_template_is_asked_in_plain_text_behind_its_bos() -> None:
    tokens = Tokens(small_tokenizer(bos=True))
    prompts = PromptSet.from_mapping(
        {**ASK_PROMPTS, "chat": True, "context": "Read: {context}", "reply": "Ok. "}
    )
    assert tokens.encode_opening(prompts)[0] == 6
    assert tokens.decode(tokens.encode_opening(prompts)) == "Read:"
    assert tokens.decode(tokens.encode_request(prompts, "answer", "who?")) == "Ok. who?"


def test_the_reply_that_nothing_is_remembered_is_an_empty_text_and_lines_are_lines() -> None:
    tokens = Tokens(small_tokenizer(), "<|line|>", "<|none|>")
    one, other = tokens.encode_text("one").tolist(), tokens.encode_text("other").tolist()
    assert tokens.decode([5]) == ""
    assert tokens.decode([*one, 4, *other]) == "one\nother"


def test_the_opening_begins_every_part_and_the_stream() -> None:
    usage = Usage(prompts=PromptSet.from_mapping({**ASK_PROMPTS, "context": "Read: {context}"}))
    tokenizer = small_tokenizer()
    shape: dict[str, Any] = {"vocabulary": len(tokenizer), "tokens": Tokens(tokenizer), "usage": usage}
    model = beacon_model(**shape)
    assert model.tokens is not None
    ids = model.tokens.encode_text("Read: " + TEXTS[0])
    assert_same_memory(model.memorize(TEXTS[0]), model.feed(torch.from_numpy(ids)).memory)
    parted = beacon_model(**shape, capacity=16, overlap=2)
    memory = parted.memorize(TEXTS[0])
    assert parted.capacity == 16
    assert memory.stream.tokens == 16
    assert memory.parts == 5  # 37 tokens of text: 10 in each part, 8 of them new, and the end


def test_progress_is_shown_when_asked_for_and_not_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    model = text_model(capacity=16)
    model.memorize(TEXTS, progress=True)
    assert "memorizing" in capsys.readouterr().err
    model.memorize(TEXTS, progress=False)
    model.memorize(TEXTS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", "   \n", [], [""], ["words", " "], [Document("")], [3], 3])
def test_nothing_to_read_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        text_model().memorize(text)


def test_a_question_before_anything_is_memorized_is_refused() -> None:
    for ask in (text_model().recall, text_model().summarize):
        with pytest.raises(NothingMemorizedError, match="memorize"):
            ask("Who?", None)


def test_questions_that_cannot_be_asked_are_refused() -> None:
    model = text_model()
    memory = model.memorize(TEXTS)
    with pytest.raises(InputError, match="question"):
        model.recall("  ", memory)
    with pytest.raises(InputError, match="no request for clues of kind 'query'"):
        model.rewrite("Who?", memory)
    with pytest.raises(InputError, match="kind of clue"):
        model.recollect(asks(["Who?"], "poem"), memory)
    with pytest.raises(InputError, match="max_new_tokens"):
        model.recall("Who?", memory, max_new_tokens=0)
    with pytest.raises(InputError, match="list of requests"):
        model.recollect("Who?", memory)  # type: ignore[arg-type]


def test_a_model_without_tokenizer_says_what_it_can_do() -> None:
    model = beacon_model()
    memory = model.feed([[1, 2, 3]]).memory
    with pytest.raises(InputError, match=r"without a tokenizer.*feed\(\) and greedy\(\)"):
        model.memorize("text")
    with pytest.raises(InputError, match="without a tokenizer"):
        model.recall("Who?", memory)


def test_text_does_not_continue_several_rows() -> None:
    model = text_model()
    with pytest.raises(InputError, match="feed"):
        model.memorize("text", model.feed([[1, 2], [3, 4]]).memory)


@pytest.mark.parametrize(("capacity", "overlap"), [(12, 0), (0, 0), (16, 16), (16, -1), (1.5, 0)])
def test_a_capacity_that_cannot_be_is_refused(capacity: Any, overlap: int) -> None:
    with pytest.raises(InputError, match="expected"):
        text_model(capacity=capacity, overlap=overlap)


def test_capacity_and_ratio_come_from_the_checkpoint_unless_asked_for(tmp_path: Path) -> None:
    usage = {"capacity": 64, "overlap": 16, "ratio": 2, "prompts": ASK_PROMPTS}
    write_checkpoint(tmp_path, tokenizer=small_tokenizer(), usage=usage, window=8)
    model = BeaconModel.from_pretrained(tmp_path)
    assert (model.capacity, model.ratio) == (64, 2)
    assert BeaconModel.from_pretrained(tmp_path, capacity=None, ratio=4).capacity is None
    asked = BeaconModel.from_pretrained(tmp_path, capacity=16, ratio=4)
    assert (asked.capacity, asked.ratio) == (16, 4)
    assert asked.memorize(TEXTS[0]).parts == 3  # 37 bytes, 2 shared
