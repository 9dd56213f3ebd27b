"""What is said over a memory is what the same model says when plainly prompted with the whole text."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.memory.decoding import Replies
from memorag_core.memory.longcontext import LongContextMemory, LongContextModel
from memorag_core.memory.longcontext.generate import generate
from memorag_core.prompts import PromptSet, load_prompts
from tests.core.doubles import asks
from tests.core.memory.longcontext.conftest import (
    FAMILIES,
    ISSUE_FAMILIES,
    VOCABULARY,
    assert_same_memory,
    assert_same_reply,
    causal_model,
    leads,
    plainly,
    random_ids,
    text_model,
)
from tests.rules import examples

CHATML = (
    "{% for message in messages %}<|ask|>{{ message['role'] }}: {{ message['content'] }}<|line|>{% endfor %}"
    "{% if add_generation_prompt %}<|ask|>assistant: {% endif %}"
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("context", "prompt", "chunk"), [(90, 11, 13), (5, 1, 2048), (40, 30, 1)])
def test_decoded_ids_are_those_of_plain_generate(family: str, context: int, prompt: int, chunk: int) -> None:
    plain = causal_model(family, seed=1)
    ids = random_ids(2, context + prompt, seed=context)
    expected = plainly(plain, ids, 24)
    model = LongContextModel(causal_model(family, seed=1), chunk=chunk)
    found = model.greedy(ids[:, context:], model.feed(ids[:, :context]).memory, max_new_tokens=24)
    assert torch.equal(found, expected)
    assert torch.equal(model.greedy(ids, max_new_tokens=24), expected)  # a prompt may begin the stream
    assert family == "gpt2" or len(set(expected.flatten().tolist())) > 1  # they do not repeat one token


@settings(max_examples=examples(60))
@given(
    family=st.sampled_from(ISSUE_FAMILIES),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    prompt=st.integers(1, 30),
    chunk=st.integers(1, 64),
    rows=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_any_chunk_and_any_split_of_the_append_give_the_same(
    family: str, lengths: list[int], prompt: int, chunk: int, rows: int, seed: int
) -> None:
    plain = causal_model(family, seed=seed)
    model = LongContextModel(plain, chunk=chunk)
    ids = random_ids(rows, sum(lengths) + prompt, seed=seed)
    memory: LongContextMemory | None = None
    at = 0
    for length in lengths:
        fed = model.feed(ids[:, at : at + length], memory)
        memory, at = fed.memory, at + length
        whole = plain(ids[:, :at], use_cache=False).logits[:, -1:]
        assert torch.allclose(fed.logits, whole, atol=2e-3)
    assert memory is not None
    assert_same_memory(memory, LongContextModel(plain).feed(ids[:, :at]).memory)
    found = model.greedy(ids[:, at:], memory, max_new_tokens=10)
    assert_same_reply(plain, ids, found, plainly(plain, ids, 10))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_used_by_itself_computes_what_it_computed_before(family: str) -> None:
    ids = random_ids(1, 30)
    untouched, used = causal_model(family), causal_model(family)
    LongContextModel(used).feed(ids)
    assert torch.equal(used(ids).logits, untouched(ids).logits)
    assert torch.equal(plainly(used, ids, 8), plainly(untouched, ids, 8))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_it_does_not_matter_which_attention_the_model_was_loaded_with(attention: str) -> None:
    plain = causal_model("mistral with a sliding window")
    plain.set_attn_implementation(attention)
    ids = random_ids(1, 60)
    expected = plainly(plain, ids, 12)
    model = LongContextModel(plain, chunk=9)
    assert torch.equal(model.greedy(ids[:, 50:], model.feed(ids[:, :50]).memory, max_new_tokens=12), expected)
    assert torch.equal(LongContextModel(plain).greedy(ids, max_new_tokens=12), expected)  # taken over twice


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_the_model_itself(dtype: torch.dtype) -> None:
    for family in ISSUE_FAMILIES:
        plain = cast(Any, causal_model(family)).to(dtype)
        model = LongContextModel(plain, chunk=16)
        ids = random_ids(1, 70)
        fed = model.feed(ids)
        expected = plain(ids, use_cache=False).logits[:, -1:].float()
        assert fed.memory.blocks[0].kept[0].keys.dtype == dtype
        assert (fed.logits - expected).norm() < 0.1 * expected.norm()


# Text


def whole_prompt(model: LongContextModel, text: str, question: str, kind: Any) -> str:
    """The prompt as the model's own chat template writes it, or in plain text."""
    prompts = load_prompts(None)
    context, request = prompts.context_parts(text).text, prompts.render(kind, question)
    assert model.tokens is not None
    tokenizer = model.tokens.tokenizer
    if not tokenizer.chat_template:
        return context + prompts.reply + request
    turns = [
        {"role": "user", "content": context},
        {"role": "assistant", "content": prompts.reply},
        {"role": "user", "content": request},
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize("template", [None, CHATML])
@pytest.mark.parametrize("kind", ["span", "query", "answer", "key_point"])
def test_clues_are_those_of_plain_prompting_with_the_whole_text(kind: Any, template: str | None) -> None:
    model = text_model("qwen2", chat_template=template, chunk=50)
    assert model.tokens is not None
    text = "The ferry leaves at noon. Ada mends the clock; 木曜日 <|end|> is written on it."
    question = "Who mends <|line|> what?"
    ((found,),) = model.recollect(asks([question], kind), model.memorize(text), max_new_tokens=40)
    prompt = whole_prompt(model, text, question, kind)
    opening, rest = prompt.split(text)
    before, after = rest.split(question)
    ids = [
        *model.tokens._encode(opening),
        *model.tokens.encode_text(text).tolist(),
        *model.tokens._encode(before),
        *model.tokens.encode_text(question).tolist(),
        *model.tokens._encode(after),
    ]
    said = plainly(model.model, torch.tensor([ids]), 40)[0].tolist()
    expected = said[: said.index(0)] if 0 in said else said
    assert found.text == model.tokens.decode(expected)
    assert (found.tokens, found.finished) == (len(expected), 0 in said)


def test_many_questions_asked_together_are_answered_as_alone_and_scored_by_probability() -> None:
    model = text_model("gemma2", chunk=64)
    memory = model.memorize("One text to remember, with a word or two for everybody. " * 4)
    questions = [f"What about {'x' * length}?" for length in (1, 40, 7, 90, 3)]
    together = model.recollect(asks(questions, "answer"), memory, max_new_tokens=30)
    for question, (found,) in zip(questions, together, strict=True):
        ((alone,),) = model.recollect(asks([question], "answer"), memory, max_new_tokens=30)
        assert found.text == alone.text
        assert found.score == pytest.approx(alone.score, abs=1e-4)
        assert found.score < 0
    assert model.tokens is not None
    prompts = load_prompts(None)
    request = model.tokens.encode_request(prompts, "answer", questions[0])
    scores: list[float] = []
    step = model.feed([request], memory)
    ended = False
    while len(scores) < 30 and not ended:
        log = step.logits[0, -1].log_softmax(-1)
        token = int(log.argmax())
        scores.append(float(log[token]))
        ended = token == 0
        step = model.feed([token], step.memory)
    assert together[0][0].score == pytest.approx(sum(scores) / len(scores), abs=1e-3)
    assert together[0][0].finished == ended


@settings(max_examples=20)
@given(
    family=st.sampled_from(["llama", "gemma2"]),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    rows=st.integers(1, 3),
    stops=st.sets(st.integers(0, VOCABULARY - 1), max_size=20),
    seed=st.integers(0, 99),
)
def test_rows_that_end_are_dropped_and_the_others_go_on_as_alone(
    family: str, lengths: list[int], rows: int, stops: set[int], seed: int
) -> None:
    model = LongContextModel(causal_model(family, seed=seed), chunk=30)
    context = random_ids(rows, 25, seed=seed)
    prompts = [random_ids(rows, length, seed=seed + length) for length in lengths]
    with torch.inference_mode():
        (block,) = model.feed(context).memory.blocks
        found = generate(
            model._host, block, prompts, Replies.alike(rows * len(prompts), 12), chunk=30, stop=stops
        )
    for lane, prompt in enumerate(prompts):
        whole = torch.cat((context, prompt), dim=1)
        expected = plainly(model.model, whole, 12)
        for row in range(rows):
            said = expected[row].tolist()
            ends = [at for at, token in enumerate(said) if token in stops]
            kept = said[: ends[0]] if ends else said
            reply = found[lane * rows + row]
            if list(reply.ids) != kept:
                lead = leads(model.model, whole[row : row + 1], expected[row : row + 1])
                assert lead.min() < 1e-3
                continue
            assert reply.finished == bool(ends)


def test_a_reply_ends_at_every_end_token_that_the_model_names() -> None:
    def reply(ends: Any) -> Any:
        plain = causal_model("llama", vocab_size=263, max_position_embeddings=4096, eos_token_id=0)
        plain.generation_config.eos_token_id = ends
        model = LongContextModel(plain, text_model().tokens)
        ((found,),) = model.recollect(asks(["Why?"], "span"), model.memorize("Because."), max_new_tokens=20)
        return model, found

    model, free = reply(None)
    assert model.tokens is not None
    memory = model.memorize("Because.")
    request = model.tokens.encode_request(load_prompts(None), "span", "Why?")
    said = model.greedy([request], memory, max_new_tokens=20)[0].tolist()
    fifth = said[4]
    _, cut = reply([fifth, 1])
    assert cut.finished
    assert cut.tokens == said.index(fifth)
    assert free.tokens >= cut.tokens


def test_a_models_own_prompts_are_used_whatever_the_language() -> None:
    prompts = PromptSet.from_mapping(
        {"chat": False, "context": "{context}", "tasks": {"span": "<|ask|>{question}<|span|>"}}
    )
    model = text_model(prompts=prompts)
    memory = model.memorize("abc")
    assert memory.tokens == 3
    one, other = (
        model.recollect(asks(["?"], "span"), memory, language=language, max_new_tokens=5)
        for language in ("en", "zh")
    )
    assert one == other
