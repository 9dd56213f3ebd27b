"""Gists as a memory model: reading, appending, asking; the journal's promise; the whole pipeline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import MemoRAG
from memorag_core.errors import InputError, MemoRAGError, StoreError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.gist import GistMemory, GistModel
from memorag_core.memory.hosted import HostedModel
from memorag_core.memory.llm import estimate_tokens
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.types import Document
from tests.core.doubles import asks
from tests.core.loopback import ChatServer, chat
from tests.core.memory.gist.conftest import (
    SMALL,
    Counting,
    assert_same,
    condensed,
    gist_model,
    hosted,
    real_text,
    tiny,
)
from tests.core.memory.longcontext.conftest import assert_same_memory

TEXT = real_text(6000)
ISLAND = (
    "Anna Holt repairs every clock in the valley. She was born in May. "
    "The ferry to the mainland leaves at seven and carries the mail.\n\n"
)
CHINESE = "安娜修理山谷里的每一座钟。她生于五月。开往大陆的渡轮七点出发，运送邮件。" * 12


# Reading


def test_each_block_has_a_gist_in_the_order_of_the_text_and_the_memory_is_made_of_them() -> None:
    condenser = Counting()
    documents = [
        Document(TEXT, id="manual"),
        Document("One short note.", id="note"),
        Document(real_text(20_000)[9000:9900], id="c"),
    ]
    memory = gist_model(condenser, concurrency=3).memorize(documents)
    assert [*memory.document_ids] == ["manual", "note", "c"]
    for document in documents:
        own = [gist for gist in memory.gists if gist.document_id == document.id]
        assert own[0].start == 0
        assert own[-1].end == len(document.text)
        assert all(one.end == other.start for one, other in pairwise(own))
        for gist in own:
            block = document.text[gist.start : gist.end]
            assert gist.tokens <= SMALL["block_tokens"]
            if gist.tokens > SMALL["gist_tokens"]:
                prompt = load_prompts("en").gist_parts(block.strip(), words=24).text
                assert prompt in condenser.prompts
                assert gist.text == condensed(prompt)
            else:
                assert gist.text == block.strip()
            assert gist.gist_tokens == estimate_tokens(gist.text)
    texts = [
        Document(
            "\n\n".join(gist.text for gist in memory.gists if gist.document_id == document.id), document.id
        )
        for document in documents
    ]
    inner = tiny().memorize(texts)
    assert_same(GistMemory(memory.gists, inner, 0, 0), memory)
    assert (
        memory.blocks
        == len(memory.gists)
        == condenser.asked + sum(gist.tokens <= SMALL["gist_tokens"] for gist in memory.gists)
    )
    assert memory.gist_tokens < memory.tokens / 3
    assert memory.parts == inner.parts
    assert memory.nbytes == inner.nbytes + sum(len(gist.text.encode()) for gist in memory.gists)


def test_requests_are_in_the_language_of_each_document_or_the_one_given() -> None:
    condenser = Counting()
    gist_model(condenser, hosted()).memorize([TEXT[:2000], CHINESE])
    chinese = [prompt for prompt in condenser.prompts if "安娜" in prompt]
    assert chinese
    assert all(prompt.startswith("请把下面") for prompt in chinese)
    others = [prompt for prompt in condenser.prompts if prompt not in chinese]
    assert others
    assert all(prompt.startswith("Condense the text") for prompt in others)
    for language, beginning in (("zh", "请把下面"), ("fr", "Condense the text")):
        given_one = Counting()
        gist_model(given_one, hosted(), language=language).memorize(TEXT[:2000])
        assert all(prompt.startswith(beginning) for prompt in given_one.prompts)
    assert "do not translate" in given_one.prompts[0]


def test_all_requests_of_a_language_begin_alike_up_to_the_block() -> None:
    condenser = Counting()
    gist_model(condenser, hosted()).memorize([TEXT, real_text(20_000)[8000:9000]])
    before = load_prompts("en").gist_parts("", words=24).before
    assert all(prompt.startswith(before) for prompt in condenser.prompts)


def test_a_prompt_set_of_the_users_is_asked_with() -> None:
    condenser = Counting()
    prompts = PromptSet.from_mapping(
        {"context": "{context}", "tasks": {"span": "{question}"}, "gist": "In {words}:\n\n=== ===\n{text}"}
    )
    gist_model(condenser, hosted(), prompts=prompts).memorize(TEXT)
    assert all(prompt.startswith("In 24:\n\n=== ===\n") for prompt in condenser.prompts)


def test_a_gist_that_is_no_shorter_than_its_block_is_replaced_by_the_block() -> None:
    memory = gist_model(lambda prompt: prompt, hosted()).memorize(TEXT)
    assert [gist.text for gist in memory.gists] == [
        TEXT[gist.start : gist.end].strip() for gist in memory.gists
    ]


def test_equal_blocks_are_condensed_once() -> None:
    condenser = Counting()
    memory = gist_model(condenser, hosted()).memorize([ISLAND * 3] * 4)
    assert condenser.asked == 1
    assert len({gist.text for gist in memory.gists}) == 1
    assert memory.blocks == 4


def test_the_users_own_count_of_tokens_decides_about_blocks() -> None:
    memory = gist_model(inner=hosted(), count_tokens=lambda text: len(text.split())).memorize(
        "five words are in this. " * 40
    )
    assert memory.tokens == 200
    assert [gist.tokens for gist in memory.gists] == [125, 75]


def test_progress_counts_all_tokens_once_and_stands_at_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = gist_model(Counting(), hosted(), journal=tmp_path / "j")
    asked = sum(gist.tokens for gist in model.memorize(TEXT[:2000], progress=False).gists)
    assert not capfd.readouterr().err
    for _ in range(2):  # the second time, all of it comes from the journal
        model.memorize(TEXT[:2000], progress=True)
        shown = capfd.readouterr().err
        assert f"{asked}/{asked}" in shown.split("condensing: 100%")[-1]


# Appending

DOCUMENTS = st.lists(
    st.lists(
        st.sampled_from([ISLAND, "Short. ", TEXT[:700], TEXT[700:1500], CHINESE[:300]]),
        min_size=1,
        max_size=3,
    )
    .map("".join)
    .filter(str.strip),
    min_size=1,
    max_size=5,
)


@settings(max_examples=25)
@given(texts=DOCUMENTS, cuts=st.sets(st.integers(1, 4)))
def test_appending_equals_memorizing_at_once_and_condenses_only_what_is_new(
    texts: list[str], cuts: set[int]
) -> None:
    documents = [Document(text, id=str(number)) for number, text in enumerate(texts)]
    expected = gist_model().memorize(documents)
    memory: GistMemory | None = None
    condenser = Counting()
    model = gist_model(condenser)
    borders = [0, *sorted(cut for cut in cuts if cut < len(texts)), len(texts)]
    for start, end in pairwise(borders):
        before, kept, asked = memory, memory.gists if memory else (), condenser.asked
        memory = model.memorize(documents[start:end], memory)
        new = memory.gists[len(kept) :]
        assert memory.gists[: len(kept)] == kept
        assert condenser.asked - asked <= len(new)
        assert before is None or before.gists == kept
    assert memory is not None
    assert memory.gists == expected.gists
    assert_same_memory(memory.inner, expected.inner)  # as near as the model says of itself


def test_plain_texts_are_numbered_on_and_an_id_is_used_once() -> None:
    model = gist_model(inner=hosted())
    memory = model.memorize("And a third.", model.memorize(["One text.", "Another text."]))
    assert memory.document_ids == ("0", "1", "2")
    with pytest.raises(InputError, match="id '1' is in use"):
        model.memorize([Document("Again.", id="1")], memory)


# Interrupted and resumed


@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyboardInterrupt(), MemoryError("full")])
def test_interrupted_anywhere_and_resumed_is_the_same_and_asks_for_nothing_twice(
    error: BaseException, tmp_path: Path
) -> None:
    calm = Counting()
    expected = gist_model(calm).memorize(TEXT)
    for after in (0, 1, calm.asked // 2, calm.asked - 1):
        journal = tmp_path / f"{after}.jsonl"
        broken = Counting(breaks_at=after, error=error)
        with pytest.raises((MemoRAGError, type(error))) as raised:
            gist_model(broken, journal=journal, concurrency=1).memorize(TEXT)
        if isinstance(raised.value, MemoRAGError):
            assert f"finished gists are in '{journal}' and are not asked for again" in str(raised.value)
        resumed = Counting()
        assert_same(gist_model(resumed, journal=journal).memorize(TEXT), expected)
        assert resumed.asked == calm.asked - after
        assert not {*resumed.prompts} & {*broken.prompts}
        done = Counting()
        assert_same(gist_model(done, journal=journal).memorize(TEXT), expected)
        assert done.asked == 0


def test_the_server_fails_after_some_blocks_and_the_next_attempt_asks_for_the_rest(
    server: ChatServer, tmp_path: Path
) -> None:
    expected = GistModel(chat(server), tiny(), **SMALL).memorize(TEXT)
    blocks = server.asked
    journal = tmp_path / "gists.jsonl"
    model = GistModel(chat(server, max_retries=0), tiny(), journal=journal, concurrency=2, **SMALL)
    begun = model.memorize("A text that was read before.")
    server.troubles = ["ok", "ok", "ok", "ok", "ok", "broken"]
    with pytest.raises(
        MemoRAGError, match=r"gave no reply to the request for characters \d+-\d+ of document '1'"
    ):
        model.memorize(TEXT, begun)
    assert begun.blocks == 1
    finished = len(journal.read_text().splitlines()) - 1
    assert finished >= 5
    answered = server.usage().requests
    assert_same(model.memorize([Document(TEXT, id="0")]), expected)
    assert server.usage().requests - answered == blocks - finished
    grown = model.memorize(TEXT, begun)
    assert [gist.text for gist in grown.gists[1:]] == [gist.text for gist in expected.gists]
    assert server.usage().requests - answered == blocks - finished


KILLED = """
import json, urllib.request
from memorag_core.memory.gist import GistModel
from memorag_core.memory.hosted import HostedModel
from tests.core.doubles import asks

def ask(prompt):
    body = json.dumps({{"messages": [{{"role": "user", "content": prompt}}]}}).encode()
    request = urllib.request.Request("{url}/chat/completions", body, {{"Content-Type": "application/json"}})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]

text = open({text!r}, encoding="utf-8").read()
GistModel(ask, HostedModel(str.upper), name="served", journal={journal!r}, **{settings!r}).memorize(text)
"""


def test_a_process_killed_while_condensing_goes_on_where_it_was(server: ChatServer, tmp_path: Path) -> None:
    def served(**more: Any) -> GistModel:
        return GistModel(chat(server), tiny(), name="served", **SMALL, **more)

    expected = served().memorize(TEXT)
    blocks = server.asked
    server.seconds = 0.1
    journal, text = tmp_path / "gists.jsonl", tmp_path / "text"
    text.write_text(TEXT, encoding="utf-8")
    program = KILLED.format(url=server.url, text=str(text), journal=str(journal), settings=SMALL)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[4]
    )
    until = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = journal.read_bytes().count(b"\n") - 1
    assert 3 <= finished < blocks
    with journal.open("ab") as torn:  # as if the kill had come in the middle of the next line
        torn.write(b'{"key": "1f0')
    server.seconds = 0.0
    time.sleep(0.3)  # what the dead process had asked is answered to nobody
    before = server.asked
    assert_same(served(journal=journal).memorize(TEXT), expected)
    assert server.asked - before == blocks - finished
    assert_same(served(journal=journal).memorize(TEXT), expected)
    assert server.asked - before == blocks - finished


def test_the_gists_of_another_condenser_prompt_or_length_are_not_taken(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    first = Counting()
    gist_model(first, hosted(), journal=journal).memorize(TEXT)
    changes: list[dict[str, Any]] = [{"name": "other"}, {"language": "zh"}, {"gist_tokens": 24}]
    for change in changes:
        condenser = Counting()
        gist_model(condenser, hosted(), journal=journal, **change).memorize(TEXT)
        assert condenser.asked == first.asked
    condenser = Counting()
    gist_model(condenser, tiny(), journal=journal).memorize(TEXT)  # another memory model has the same gists
    assert condenser.asked == 0


def test_a_damaged_journal_stops_reading_before_anything_is_asked(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    gist_model(inner=hosted(), journal=journal).memorize(TEXT)
    journal.write_bytes(journal.read_bytes().replace(b'"gist": "', b'"gist": "x', 1))
    condenser = Counting()
    with pytest.raises(StoreError, match=r"Line 2 of .* is damaged"):
        gist_model(condenser, hosted(), journal=journal).memorize(TEXT)
    assert condenser.asked == 0


# Replies that cannot be used


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "an empty reply"),
        (" \n", "an empty reply"),
        ("I’m sorry, but I can't help with that.", "looks like a refusal"),
        ("抱歉，我无法处理这段文本。", "looks like a refusal"),
    ],
)
def test_a_block_without_gist_fails_when_all_others_are_kept_or_is_read_as_it_stands(
    reply: str, problem: str, tmp_path: Path
) -> None:
    def moody(prompt: str) -> str:
        return reply if "AssertionError" in prompt else condensed(prompt)

    refused = [
        gist for gist in gist_model().memorize(TEXT).gists if "AssertionError" in TEXT[gist.start : gist.end]
    ]
    assert len(refused) >= 2
    journal = tmp_path / "j"
    with pytest.raises(
        MemoRAGError, match=rf"no gist of {len(refused)} of \d+ blocks \(.*{problem}"
    ) as raised:
        gist_model(moody, hosted(), journal=journal).memorize(TEXT)
    assert f"characters {refused[0].start}-{refused[0].end} of document '0'" in str(raised.value)
    assert "without_gist='text'" in str(raised.value)

    later = Counting()
    gist_model(later, hosted(), journal=journal).memorize(TEXT)
    assert later.asked == len(refused)  # what was refused is asked again, nothing else
    memory = gist_model(moody, hosted(), without_gist="text").memorize(TEXT)
    for gist in memory.gists:
        block = TEXT[gist.start : gist.end]
        assert (gist.text == block.strip()) == ("AssertionError" in block)


def test_a_long_gist_that_begins_like_a_refusal_is_a_gist() -> None:
    begins = "I cannot forget the day on which the clock of the valley was repaired by Anna Holt. " * 4
    settings = {"block_tokens": 512, "gist_tokens": 128}
    memory = gist_model(lambda _: begins, hosted(), **settings).memorize(TEXT)
    assert memory.gists[0].text == begins.strip()


def test_half_of_a_surrogate_pair_in_a_reply_is_replaced(tmp_path: Path) -> None:
    memory = gist_model(lambda _: "a \ud83d b", hosted(), journal=tmp_path / "j").memorize(TEXT)
    assert memory.gists[0].text == "a ? b"


# Trouble on the way


def test_troubles_that_the_client_makes_good_lose_nothing_and_keep_the_order(server: ChatServer) -> None:
    expected = GistModel(chat(server), tiny(), **SMALL).memorize(TEXT)
    server.troubles = ["busy", "ok", "broken", "busy", "ok", "slow", "broken", "cut", "ok", "busy"]
    patient = GistModel(chat(server, max_retries=8, timeout=0.6), tiny(), **SMALL)
    assert_same(patient.memorize(TEXT), expected)
    assert not server.troubles
    assert patient.usage.requests == sum(gist.tokens > SMALL["gist_tokens"] for gist in expected.gists)


def test_no_more_requests_are_in_flight_than_was_said(server: ChatServer) -> None:
    server.seconds = 0.02
    GistModel(chat(server), hosted(), concurrency=3, **SMALL).memorize(TEXT)
    assert 2 <= server.most_at_once <= 3


def test_without_a_journal_an_error_says_how_to_have_one(server: ChatServer) -> None:
    server.always = "refused"
    with pytest.raises(MemoRAGError, match=r"context length.*Give journal='gists\.jsonl'"):
        GistModel(chat(server, max_retries=0), hosted(), **SMALL).memorize(TEXT)


# Asking


def test_the_memory_model_is_asked_over_the_gists_and_the_memory_stays_as_it_is() -> None:
    model = gist_model()
    memory = model.memorize(TEXT)
    packed = {name: tensor.clone() for name, tensor in model.pack(memory)[0].items()}
    questions = asks(["What is asserted?", "How does a loop end?"], "answer")
    expected = tiny().recollect(questions, memory.inner, language="en", max_new_tokens=5)
    found: dict[int, Any] = {}

    def ask(thread: int) -> None:
        found[thread] = model.recollect(questions, memory, language="en", max_new_tokens=5)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*found.values()] == [expected] * 4
    assert all(bool((packed[name] == tensor).all()) for name, tensor in model.pack(memory)[0].items())


def test_memories_of_other_settings_and_models_are_refused() -> None:
    memory = gist_model(inner=hosted()).memorize(TEXT)
    uses: list[Callable[[GistModel, Any], Any]] = [
        lambda model, given: model.memorize("more", given),
        lambda model, given: model.recollect(asks(["Who?"], "span"), given),
        lambda model, given: model.pack(given),
    ]
    for use in uses:
        with pytest.raises(InputError, match="gists of 32 tokens for blocks of 128"):
            use(gist_model(inner=hosted(), gist_tokens=64), memory)
        with pytest.raises(InputError, match="The memory is a HostedMemory"):
            use(gist_model(inner=hosted()), memory.inner)


# Settings


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"block_tokens": 63}, "block_tokens is 63"),
        ({"block_tokens": True}, "block_tokens is True"),
        ({"gist_tokens": 65}, "gist_tokens is 65; expected 16 to 64"),
        ({"gist_tokens": 15}, "gist_tokens is 15"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"without_gist": "skip"}, "without_gist is 'skip'"),
        ({"language": 7}, "language is 7"),
        ({"name": " "}, "name"),
        ({"inner": HostedModel}, "memory model is"),
        ({"inner": "beacon"}, "memory model is 'beacon'"),
        ({"condenser": 7}, "The LLM is 7"),
        ({"condenser": hosted()}, r"a memory model\. Give local_condenser\(model\)"),
        (
            {"prompts": PromptSet("en", "{context}", {"span": "{question}"}, "{evidence}{question}", "")},
            "no request for gists",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gist_model(**given_settings)


def test_the_fingerprint_tells_what_a_memory_depends_on(server: ChatServer) -> None:
    own = PromptSet.from_mapping({"context": "{context}", "tasks": {"span": "{question}"}, "gist": "{text}"})
    models = [
        gist_model(),
        gist_model(name="other"),
        gist_model(block_tokens=256),
        gist_model(gist_tokens=64),
        gist_model(prompts=own),
        gist_model(inner=hosted()),
        GistModel(chat(server), hosted(), **SMALL),
    ]
    prints = [json.dumps(model.fingerprint, sort_keys=True) for model in models]
    assert len({*prints}) == len(prints)
    assert models[0].fingerprint == gist_model(concurrency=1, journal="j", language="zh").fingerprint
    assert models[0].fingerprint["kind"] == "gist"
    assert models[-1].fingerprint["condenser"] == models[-1].name == "loopback-1"


# The pipeline


def story() -> str:
    """Long enough for many blocks, with one place that a question is about."""
    return real_text(9000) + "\n\n" + ISLAND + real_text(30_000)[20_000:]


def test_a_pipeline_with_gists_in_the_prompt_of_a_server_finds_evidence_and_loads_as_it_was(
    server: ChatServer, tmp_path: Path
) -> None:
    def model(**more: Any) -> GistModel:
        return GistModel(chat(server), HostedModel(chat(server)), block_tokens=256, gist_tokens=64, **more)

    rag = MemoRAG(model(), progress=False).memorize([story(), "A note."])
    condensing = server.asked
    assert rag.memory.blocks == condensing + 1
    question = "Who repairs the clocks of the valley?"
    evidence = rag.retrieve(question, k=2)
    assert server.asked == condensing + 3
    assert "Anna Holt repairs every clock" in evidence[0].chunk.text
    rag.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", model(), progress=False)
    assert server.asked == condensing + 3
    assert loaded.memory == rag.memory
    assert loaded.retrieve(question, k=2) == evidence
    assert loaded.memorize("One thing more.").memory == rag.memorize("One thing more.").memory
    for other, found in ((model(name="other"), "condenser"), (model(language="en", count_tokens=len), "")):
        if found:
            with pytest.raises(StoreError, match=found):
                MemoRAG.load(tmp_path / "store", other)
        else:
            MemoRAG.load(tmp_path / "store", other)


@pytest.mark.skipif(
    not (bundled_path() / "model.safetensors").exists(), reason="the bundled model is not built"
)
def test_a_pipeline_with_gists_in_the_bundled_model_finds_evidence_and_loads_as_it_was(
    tmp_path: Path,
) -> None:
    def model() -> GistModel:
        inner = BeaconModel.from_pretrained(bundled_path(), device="cpu")
        return GistModel(condensed, inner, name="first words", block_tokens=256, gist_tokens=64)

    rag = MemoRAG(model(), progress=False).memorize(story())
    evidence = rag.retrieve("Who repairs the clocks of the valley?", k=2)
    assert "Anna Holt repairs every clock" in evidence[0].chunk.text
    rag.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", model(), progress=False)
    assert loaded.memory.gists == rag.memory.gists
    assert loaded.retrieve("Who repairs the clocks of the valley?", k=2) == evidence


def test_a_pipeline_keeps_nothing_of_a_text_that_could_not_be_condensed(
    server: ChatServer, tmp_path: Path
) -> None:
    model = GistModel(chat(server, max_retries=0), hosted(), journal=tmp_path / "j", **SMALL)
    rag = MemoRAG(model, progress=False).memorize("What was read before.")
    memory, documents = rag.memory, rag.documents
    server.troubles = ["ok", "ok", "broken"]
    with pytest.raises(MemoRAGError, match="our fault"):
        rag.memorize(TEXT)
    assert (rag.memory, rag.documents) == (memory, documents)
    assert rag.memorize(TEXT).memory.blocks > 5
