"""Text in, text out: memorizing documents and asking for clues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet
from tests.core.doubles import asks
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    assert_same_memory,
    beacon_model,
    small_tokenizer,
    text_model,
    write_checkpoint,
)

TEXTS = ["The keeper of the tower mends clocks.", "Rain came.", "Mara Venn lives in Orrin, by the river."]
QUESTIONS = ["Who mends clocks?", "Where?", "Who lives by the river in Orrin?"]


@pytest.mark.parametrize("capacity", [None, 16, 64])
@pytest.mark.parametrize("pad_windows", [False, True])
def test_filled_windows_leave_none_open_and_a_text_is_cut_where_it_outgrows_the_capacity(
    capacity: int | None, pad_windows: bool
) -> None:
    memory = text_model(pad_windows=pad_windows, capacity=capacity, overlap=4 if capacity else 0).memorize(
        TEXTS
    )
    if pad_windows:
        assert memory.stream.filled == 0
    assert (memory.parts > 1) == (capacity is not None and memory.tokens > capacity)


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


def test_a_kind_of_request_that_the_checkpoint_does_not_know_is_refused() -> None:
    model = text_model()
    with pytest.raises(InputError, match="no request for clues of kind 'query'"):
        model.recollect(asks(["Who?"], "query"), model.memorize(TEXTS))


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
