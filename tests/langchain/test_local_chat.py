"""A local model as a chat model says what its plain ``generate`` says, streams it, and stops when told."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_memorag.answering import answer_chain
from langchain_memorag.local_chat import LocalChatModel, local_chat_model
from langchain_memorag.retriever import MemoRAGRetriever
from memorag_core import BeaconModel, CheckpointError, InputError, MemoRAG
from memorag_core.memory.bundled import bundled_path
from tests.core.memory.longcontext.conftest import save_model, text_model
from tests.langchain.conftest import QUESTION

CHATML = (
    "{% for turn in messages %}<|{{ turn.role }}|>{{ turn.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MESSAGES: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage("Hello"),
    AIMessage("Yes?"),
    HumanMessage("Who mends clocks?"),
]
RENDERED = (
    "<|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|>Yes?<|end|>"
    "<|user|>Who mends clocks?<|end|><|assistant|>"
)
LONG = 4000  # tokens: seconds of writing, even for a tiny model


def speaking(family: str = "llama", **settings: Any) -> Any:
    return text_model(family, chat_template=CHATML, **settings)


def plainly(model: Any, prompt: str, count: int) -> str:
    ids = torch.tensor([model.tokens.tokenizer(prompt, add_special_tokens=False).input_ids])
    said = model.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    return str(model.tokens.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True))


def writers() -> int:
    """Threads that write replies."""
    return sum(thread.name.startswith("memorag-local-chat") for thread in threading.enumerate())


class _Local:
    @property
    def chat_model_class(self) -> type[LocalChatModel]:
        return LocalChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        model = speaking()
        return {"model": model, "model_name": "tiny", "max_new_tokens": 16}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return False


class TestLocalUnit(_Local, ChatModelUnitTests):
    pass


class TestLocal(_Local, ChatModelIntegrationTests):
    pass


@pytest.mark.parametrize("family", ["llama", "gpt2"])
async def test_it_says_what_plain_generate_says_in_every_way_of_calling(family: str) -> None:
    model = speaking(family)
    llm = local_chat_model(model, max_new_tokens=24)
    expected = plainly(model, RENDERED, 24)
    said = llm.invoke(MESSAGES)
    assert said.content == expected
    assert (await llm.ainvoke(MESSAGES)).content == expected
    assert "".join(str(chunk.content) for chunk in llm.stream(MESSAGES)) == expected
    assert "".join([str(chunk.content) async for chunk in llm.astream(MESSAGES)]) == expected
    assert said.usage_metadata is not None
    assert said.usage_metadata["output_tokens"] == 24
    assert said.usage_metadata["input_tokens"] == len(model.tokens.tokenizer(RENDERED).input_ids)
    assert said.response_metadata["finish_reason"] == "length"


def test_without_a_chat_template_messages_stand_one_after_the_other() -> None:
    model = text_model("llama")
    said = local_chat_model(model, max_new_tokens=8).invoke(
        [SystemMessage("Be brief."), HumanMessage("Who?")]
    )
    assert said.content == plainly(model, "Be brief.\n\nWho?", 8)


def test_a_special_token_in_a_message_is_text() -> None:
    model = speaking()
    end = model.tokens.tokenizer.convert_ids_to_tokens(0)
    llm = local_chat_model(model)
    plain = llm._ids([HumanMessage("ab")]).count(0)
    assert llm._ids([HumanMessage(f"a{end}b")]).count(0) == plain
    assert model.tokens.tokenizer(f"a{end}b").input_ids.count(0) == 1


def test_a_stop_word_ends_the_text_before_it() -> None:
    llm = local_chat_model(speaking(), max_new_tokens=40)
    whole = str(llm.invoke(MESSAGES).content)
    for stop in (whole[5:7], whole[20:21], "never said"):
        expected = whole.partition(stop)[0]
        assert llm.invoke(MESSAGES, stop=[stop]).content == expected
        assert "".join(str(chunk.content) for chunk in llm.stream(MESSAGES, stop=[stop])) == expected


def test_closing_a_stream_ends_the_writing() -> None:
    stream = local_chat_model(text_model("llama"), max_new_tokens=LONG).stream("Hello")
    next(stream)
    assert writers() == 1
    stream.close()  # type: ignore[attr-defined]
    assert writers() == 0


async def test_cancelling_a_task_ends_the_writing_and_the_loop_is_free_meanwhile() -> None:
    task = asyncio.create_task(local_chat_model(text_model("llama"), max_new_tokens=LONG).ainvoke("Hello"))
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = time.monotonic() + 2
    while writers() and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert writers() == 0


def test_what_goes_wrong_while_writing_is_raised_and_nobody_waits() -> None:
    model = text_model("llama")
    llm = local_chat_model(model)
    model.model.lm_head = torch.nn.Linear(3, 5)  # of another shape than what comes
    with pytest.raises(RuntimeError, match="shape"):
        llm.invoke("Hello")
    assert writers() == 0


def test_messages_too_long_for_the_model_are_refused_before_it_writes() -> None:
    llm = local_chat_model(text_model("llama", positions=1024))
    with pytest.raises(
        InputError, match=r"have \d+ tokens and the reply up to 512; 'llama' was made for 1024"
    ):
        llm.invoke("Hello " * 99)


def test_weights_that_are_loaded_once_recall_and_write() -> None:
    model = text_model("llama")
    memorag = MemoRAG(model, progress=False).memorize("Anna Holt repairs every clock in the valley.")
    before = memorag.retrieve(QUESTION)
    output = answer_chain(
        MemoRAGRetriever(memorag=memorag), local_chat_model(model, max_new_tokens=8)
    ).invoke(QUESTION)
    assert output["answer"]
    assert memorag.retrieve(QUESTION) == before


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
def test_a_beacon_model_speaks_as_the_plain_model_that_it_was_made_of() -> None:
    model = BeaconModel.from_pretrained(bundled_path())
    said = local_chat_model(model, max_new_tokens=8).invoke("Anna Holt repairs")
    opening = model.tokens.tokenizer("").input_ids if model.tokens else []
    assert said.usage_metadata is not None
    assert said.usage_metadata["output_tokens"] <= 8
    assert said.usage_metadata["input_tokens"] > len(opening)


def test_a_model_is_loaded_from_a_folder(tmp_path: Path) -> None:
    save_model(tmp_path)
    llm = local_chat_model(tmp_path, max_new_tokens=8, device="cpu")
    assert (
        llm.invoke("Hello").content == local_chat_model(llm.model, max_new_tokens=8).invoke("Hello").content
    )
    with pytest.raises(CheckpointError):
        local_chat_model(tmp_path / "nowhere")


def test_neither_repr_nor_a_serialized_form_shows_the_model() -> None:
    llm = local_chat_model(text_model("llama"))
    for shown in (repr(llm), str(llm), dumps(llm), str(llm.model_dump())):
        assert "LongContextModel" not in shown
        assert "Llama" not in shown
    assert "embed_tokens" not in str(llm._identifying_params)
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(llm)


def test_what_cannot_speak_is_refused() -> None:
    model = text_model("llama")
    with pytest.raises(InputError, match="model is a int; expected a BeaconModel or LongContextModel"):
        local_chat_model(7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'max_new_tokens' is 0"):
        local_chat_model(model, max_new_tokens=0)
    with pytest.raises(InputError, match=r"device is 'cpu' .* loaded already"):
        local_chat_model(model, device="cpu")
    with pytest.raises(InputError, match="given top_p; expected messages"):
        local_chat_model(model).invoke("Hello", top_p=0.5)
    refusing = speaking()
    refusing.tokens.tokenizer.chat_template = "{{ raise_exception('no system') }}"
    with pytest.raises(
        InputError, match="refuses messages of the roles system, user, assistant, user: no sys"
    ):
        local_chat_model(refusing).invoke(MESSAGES)
