"""The memory block and the retriever of chat engines: old messages are recalled, follow-ups completed."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import ChatMessage, ImageBlock, MockLLM
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.schema import MetadataMode
from pydantic import ValidationError

from llama_index_memorag.conversation import MemoRAGConversationRetriever, MemoRAGMemoryBlock
from llama_index_memorag.retriever import MemoRAGRetriever
from memorag_core import Conversation, Document, InputError, MemoRAG
from memorag_core.memory.bundled import bundled_path
from tests.core.doubles import SentenceModel
from tests.core.test_conversation import SAID, GatedModel, ReadingModel

PAGE = Path(__file__).parents[2] / "docs" / "conversation.md"
ANSWER = SAID[4][1]
FOLLOW_UP = "And where does she live?"
BEFORE = [ChatMessage("I had lunch with Mara Venn."), ChatMessage("How nice.", role="assistant")]


@pytest.fixture
def conversation() -> Conversation:
    conversation = Conversation(MemoRAG(ReadingModel(), progress=False))
    conversation.extend(SAID)
    return conversation


@pytest.fixture
def block() -> MemoRAGMemoryBlock:
    return MemoRAGMemoryBlock(memorag=MemoRAG(ReadingModel(), progress=False))


def messages() -> list[ChatMessage]:
    """What was said; made anew, for LlamaIndex writes the session into messages."""
    return [ChatMessage(text, role=role) for role, text in SAID]


def split(text: str) -> list[str]:
    return text.split()


def short_memory(block: MemoRAGMemoryBlock, session: str = "anna", limit: int = 60) -> Memory:
    return Memory.from_defaults(
        session_id=session,
        token_limit=limit,
        chat_history_token_ratio=0.5,
        token_flush_size=10,
        memory_blocks=[block],
        tokenizer_fn=split,
    )


# The block


async def test_messages_that_are_put_at_once_are_all_remembered() -> None:
    memorag = MemoRAG(SentenceModel(), progress=False)
    blocks = [MemoRAGMemoryBlock(memorag=memorag) for _ in range(8)]
    await asyncio.gather(
        *(block.aput([ChatMessage(f"Fact {number}.")]) for number, block in enumerate(blocks))
    )
    turns = blocks[0].conversation().turns()
    assert sorted(turn.text for turn in turns) == [f"Fact {number}." for number in range(8)]
    assert len({turn.id for turn in turns}) == 8


async def test_messages_are_read_together_and_what_bears_on_the_last_one_comes_back(
    block: MemoRAGMemoryBlock,
) -> None:
    await block.aput(messages())
    assert isinstance(block.memorag.model, ReadingModel)
    assert block.memorag.model.read == [[text for _, text in SAID]]
    found = (await block.aget([*BEFORE, ChatMessage(FOLLOW_UP)])).split("\n")
    turn = block.conversation().turns()[4]
    assert turn.time is not None
    assert found[0] == f"[{turn.time:%Y-%m-%d %H:%M}, user] {ANSWER}"
    assert len(found) <= 4


async def test_a_line_that_was_said_anew_says_so_and_stands_below(block: MemoRAGMemoryBlock) -> None:
    await block.aput([*messages(), ChatMessage("Mara Venn lives in a house near the sea now.")])
    wide = block.model_copy(update={"k": 8})
    lines = (await wide.aget([ChatMessage("Where does Mara Venn live?")])).split("\n")
    old = next(line for line in lines if "flat" in line)
    new = next(line for line in lines if "the sea" in line)
    assert "said anew later]" in old
    assert "said anew later]" not in new
    assert lines.index(new) < lines.index(old)


async def test_nothing_comes_back_where_nothing_is_asked_or_known(block: MemoRAGMemoryBlock) -> None:
    assert await block.aget() == ""
    assert await block.aget([]) == ""
    assert await block.aget([ChatMessage(FOLLOW_UP)]) == ""
    await block.aput([])
    await block.aput([ChatMessage(role="assistant", blocks=[ImageBlock(image=b"AAAA")])])
    assert block.memorag.documents == ()
    await block.aput(messages())
    assert await block.aget([ChatMessage("Noted.", role="assistant")]) == ""


async def test_a_message_that_cannot_be_read_leaves_the_memory_as_it_was(block: MemoRAGMemoryBlock) -> None:
    await block.aput(messages())
    before = block.memorag.documents
    with pytest.raises(RuntimeError, match="broke down"):
        await block.aput([ChatMessage("One."), ChatMessage("unreadable")])
    assert block.memorag.documents is before


async def test_old_messages_leave_the_short_term_memory_and_are_recalled(block: MemoRAGMemoryBlock) -> None:
    memory = short_memory(block)
    for message in messages():
        await memory.aput(message)
    for n in range(6):
        await memory.aput(ChatMessage(f"The weather on day {n} was neither good nor bad."))
    read = [turn.text for turn in block.conversation("anna").turns()]
    assert ANSWER in read
    assert read == [text for _, text in SAID][: len(read)] or read[: len(SAID)] == [text for _, text in SAID]
    prompt = await memory.aget(input="Where does Mara Venn live?")
    assert prompt[0].role == "system"
    assert ANSWER in str(prompt[0].content)
    assert block.conversation("anna").sessions() == ("anna",)


async def test_sessions_are_kept_apart_unless_all_are_to_be_reached(block: MemoRAGMemoryBlock) -> None:
    await block.aput(messages(), session_id="anna")
    asked = [ChatMessage("Where does Mara Venn live?")]
    assert ANSWER in await block.aget(asked, session_id="anna")
    assert await block.aget(asked, session_id="ben") == ""
    everywhere = MemoRAGMemoryBlock(memorag=block.memorag, reach="all")
    assert ANSWER in await everywhere.aget(asked, session_id="ben")


async def test_a_block_that_has_to_give_way_keeps_the_lines_that_fit_best(block: MemoRAGMemoryBlock) -> None:
    await block.aput(messages())
    content = await block.aget([ChatMessage("Where does Mara Venn live?")])
    lines = content.split("\n")
    assert len(lines) > 1
    shorter = await block.atruncate(content, 1)
    assert shorter == "\n".join(lines[:-1])
    assert await block.atruncate(content, 10_000) is None
    assert await block.atruncate(content, 0) == content


async def test_a_block_on_a_store_remembers_what_was_said_before_it_was_closed(tmp_path: Path) -> None:
    with MemoRAG.open(tmp_path / "talk", SentenceModel()) as rag:
        await MemoRAGMemoryBlock(memorag=rag).aput(messages())
    with MemoRAG.open(tmp_path / "talk", SentenceModel()) as rag:
        found = await MemoRAGMemoryBlock(memorag=rag).aget([ChatMessage("Where does Mara Venn live?")])
    assert ANSWER in found


def test_wrong_choices_are_refused() -> None:
    rag = MemoRAG(SentenceModel())
    wrong: Any = SentenceModel()
    with pytest.raises(ValidationError, match=r"expected a memorag_core\.MemoRAG"):
        MemoRAGMemoryBlock(memorag=wrong)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        MemoRAGMemoryBlock(memorag=rag, k=0)
    reach: Any = "world"
    with pytest.raises(ValidationError, match="'session' or 'all'"):
        MemoRAGMemoryBlock(memorag=rag, reach=reach)


def test_a_block_shares_its_memory_with_copies_and_never_shows_it(block: MemoRAGMemoryBlock) -> None:
    assert copy.deepcopy(block).memorag is block.memorag
    assert "memorag=" not in repr(block)
    assert "memorag" not in block.model_dump()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(block)


async def test_the_event_loop_is_free_while_the_memory_is_asked() -> None:
    model = GatedModel()
    block = MemoRAGMemoryBlock(memorag=MemoRAG(model, progress=False))
    await block.aput(messages())
    waiting = asyncio.create_task(block.aget([*BEFORE, ChatMessage(FOLLOW_UP)]))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    model.gate.set()
    assert ANSWER in await waiting


# The retriever


async def test_a_follow_up_finds_the_turn_that_answers_it(conversation: Conversation) -> None:
    memory = ChatMemoryBuffer.from_defaults(chat_history=BEFORE, token_limit=1000)
    retriever = MemoRAGConversationRetriever(conversation, memory=memory)
    found = await retriever.aretrieve(FOLLOW_UP)
    assert [node.node_id for node in found] == [node.node_id for node in retriever.retrieve(FOLLOW_UP)]
    best = found[0].node
    assert best.get_content() == ANSWER
    assert best.metadata["turn_id"] == best.ref_doc_id
    shown = best.get_content(metadata_mode=MetadataMode.LLM)
    assert "role: user" in shown
    assert "turn_id" not in shown
    assert "session" not in shown


def test_nodes_are_the_turns_that_the_core_recalls(conversation: Conversation) -> None:
    conversation.add("user", "Mara Venn lives in a house near the sea now.")
    recalled = conversation.recall("Where does Mara Venn live?", k=6)
    asked = "Where does Mara Venn live?"
    nodes = MemoRAGConversationRetriever(conversation, 6, annotate=True).retrieve(asked)
    assert [node.metadata["turn_id"] for node in nodes] == [one.turn.id for one in recalled]
    assert [node.metadata.get("superseded_by") for node in nodes] == [one.superseded_by for one in recalled]
    assert any(one.superseded_by for one in recalled)
    plain = MemoRAGConversationRetriever(conversation, 6).retrieve(asked)
    assert [node.node_id for node in plain] == [node.node_id for node in nodes]
    assert not any("superseded_by" in node.metadata for node in plain)


def test_without_a_memory_the_last_turns_of_the_conversation_stand_before_a_query(
    conversation: Conversation,
) -> None:
    conversation.add("user", "I met Ole Brandt today.")
    found = MemoRAGConversationRetriever(conversation).retrieve("Where does he live?")
    assert SAID[5][1] in [node.get_content() for node in found[:2]]


async def test_a_chat_engine_without_an_llm_for_questions_finds_what_is_meant(
    conversation: Conversation,
) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=1000)
    retriever = MemoRAGConversationRetriever(conversation, memory=memory)
    engine = ContextChatEngine.from_defaults(retriever, memory=memory, llm=MockLLM())
    engine.chat("I had lunch with Mara Venn.")
    first = engine.chat(FOLLOW_UP)
    assert first.source_nodes[0].get_content() == ANSWER
    second = await engine.achat("And where does he live, Ole Brandt?")
    assert second.source_nodes[0].get_content() == SAID[5][1]


async def test_a_chat_engine_that_completes_questions_itself_is_left_to_it(
    conversation: Conversation,
) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=1000)
    retriever = MemoRAGConversationRetriever(conversation, memory=memory)
    engine = CondensePlusContextChatEngine.from_defaults(
        retriever, memory=memory, llm=MockLLM(), skip_condense=True
    )
    assert engine.chat("Where does Mara Venn live?").source_nodes[0].get_content() == ANSWER
    assert (await engine.achat("What does she keep?")).source_nodes


async def test_a_retriever_of_one_s_own_gets_the_completed_query(conversation: Conversation) -> None:
    library = MemoRAG(SentenceModel(), progress=False).memorize(
        [Document("Mara Venn wrote on bees.", "a"), Document("Ole Brandt wrote on boats.", "b")]
    )
    memory = ChatMemoryBuffer.from_defaults(chat_history=BEFORE, token_limit=1000)
    retriever = MemoRAGConversationRetriever(
        conversation, memory=memory, retriever=MemoRAGRetriever(library, 1)
    )
    for found in (
        retriever.retrieve("What did she write on?"),
        await retriever.aretrieve("What did she write on?"),
    ):
        assert [node.get_content() for node in found] == ["Mara Venn wrote on bees."]


async def test_an_llm_may_write_the_query(conversation: Conversation) -> None:
    memory = ChatMemoryBuffer.from_defaults(chat_history=BEFORE, token_limit=1000)
    retriever = MemoRAGConversationRetriever(conversation, memory=memory, llm=MockLLM())
    found = retriever.retrieve(FOLLOW_UP)  # the mock repeats the request, in which all names are
    assert [node.node_id for node in found] == [node.node_id for node in await retriever.aretrieve(FOLLOW_UP)]
    assert any("Mara Venn" in node.get_content() for node in found)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"memory": []}, "'memory' is a list; expected a BaseMemory"),
        ({"llm": "gpt"}, "'llm' is a str; expected a LLM"),
        ({"retriever": "store"}, "'retriever' is a str"),
    ],
)
def test_a_choice_that_is_none_is_refused(conversation: Conversation, choice: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MemoRAGConversationRetriever(conversation, **choice)


def test_a_retriever_needs_a_conversation_and_one_k(conversation: Conversation) -> None:
    wrong: Any = conversation.rag
    with pytest.raises(InputError, match="'conversation' is a MemoRAG; expected a Conversation"):
        MemoRAGConversationRetriever(wrong)
    with pytest.raises(InputError, match="Set k there"):
        MemoRAGConversationRetriever(conversation, 2, retriever=MemoRAGRetriever(conversation.rag))


async def test_64_concurrent_queries_equal_sequential_ones(conversation: Conversation) -> None:
    memory = ChatMemoryBuffer.from_defaults(chat_history=BEFORE, token_limit=1000)
    retriever = MemoRAGConversationRetriever(conversation, memory=memory)
    expected = [node.node_id for node in retriever.retrieve(FOLLOW_UP)]
    for found in await asyncio.gather(*(retriever.aretrieve(FOLLOW_UP) for _ in range(64))):
        assert [node.node_id for node in found] == expected


async def test_chinese_messages_are_read_and_recalled(block: MemoRAGMemoryBlock) -> None:
    await block.aput([ChatMessage("王芳住在上海。"), ChatMessage("李明住在北京。")])
    found = await block.aget([ChatMessage("我昨天见了王芳。"), ChatMessage("她住在哪里？")])
    assert found.split("\n")[0].endswith("王芳住在上海。")


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"chat_model": FakeListChatModel(responses=["Bees."]), "llm": MockLLM()}
    printed = []
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
        printed.append(capsys.readouterr().out)
    assert printed[0].startswith("And where does she live? (Mara Venn)\n")
    lines = printed[0].splitlines()[1:]
    assert "near the sea now" in lines[0]
    assert any("near the river. - said anew later" in line for line in lines)
    assert "near the sea now" in printed[1]
    assert printed[1].endswith("Bees.\n")
    assert "near the sea now" in printed[2]
    assert printed[3] == "Mara Venn lives in a house near the sea now.\n"
