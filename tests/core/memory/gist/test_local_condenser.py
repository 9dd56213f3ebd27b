"""A model on this machine writes gists: they are those of its plain ``generate``, in batches and resumed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.gist import GistModel, local_condenser
from memorag_core.memory.llm import Usage
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.types import Document
from tests.core.doubles import asks
from tests.core.memory.gist.conftest import SMALL, assert_same, hosted, real_text, tiny
from tests.core.memory.hosted.test_model import ISLAND
from tests.core.memory.longcontext.conftest import text_model

TEXT = real_text(1500)
CHATML = (
    "{% for turn in messages %}<|{{ turn.role }}|>{{ turn.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SHORT = PromptSet.from_mapping(
    {"context": "{context}", "tasks": {"span": "{question}"}, "gist": "{text} In short:"}
)


def plain_gist(model: Any, rendered: str, count: int) -> str:
    """What the transformers model says to one prompt, end token excluded."""
    ids = torch.tensor([model.tokens.tokenizer(rendered, add_special_tokens=False).input_ids])
    said = model.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )[0, ids.shape[1] :].tolist()
    ends = model.model.generation_config.eos_token_id
    return str(model.tokens.decode(said[: said.index(ends)] if ends in said else said))


@pytest.mark.parametrize("family", ["llama", "mistral with a sliding window", "gpt2"])
@pytest.mark.parametrize("template", [None, CHATML])
def test_gists_are_what_plain_generate_says_to_each_block_alone(family: str, template: str | None) -> None:
    model = text_model(family, chat_template=template)
    condenser = local_condenser(model, batch=3)
    memory = GistModel(condenser, hosted(), block_tokens=300, gist_tokens=16).memorize(TEXT)
    assert memory.blocks >= 5
    for gist in memory.gists:
        prompt = load_prompts("en").gist_parts(TEXT[gist.start : gist.end].strip(), words=12).text
        if template is not None:
            prompt = f"<|user|>{prompt}<|end|><|assistant|>"
        assert gist.text == plain_gist(model, prompt, 32).encode(errors="replace").decode().strip()


@pytest.mark.parametrize("template", [None, CHATML, "{{ bos_token }}" + CHATML])
def test_a_request_is_tokenized_as_the_tokenizer_does_it(template: str | None) -> None:
    model: Any = text_model("llama", bos=True, chat_template=template)
    condenser: Any = local_condenser(model)
    prompt = load_prompts("en").gist_parts("A text.", words=24)
    expected = model.tokens.tokenizer(prompt.text).input_ids
    if template is not None:
        turns = [{"role": "user", "content": prompt.text}]
        told = model.tokens.tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        expected = told["input_ids"]
    assert condenser._ids(prompt) == expected
    assert expected.count(model.tokens.tokenizer.bos_token_id) == (template != CHATML)


def test_a_special_token_spelled_out_in_a_text_is_text() -> None:
    model = text_model("llama")
    special = next(iter(model.tokens.tokenizer.all_special_tokens))  # type: ignore[union-attr]
    condenser: Any = local_condenser(model)
    own = condenser._ids(load_prompts("en").gist_parts(f"before {special} after", words=24))
    number = model.tokens.tokenizer.convert_tokens_to_ids(special)  # type: ignore[union-attr]
    assert number not in own


@settings(max_examples=4)
@given(kept=st.sets(st.integers(0, 15)), batch=st.integers(1, 4))
def test_resumed_from_any_lines_of_a_journal_is_the_same(
    kept: set[int], batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    journal = tmp_path_factory.mktemp("gists") / "j"

    def memorize() -> Any:
        condenser = local_condenser(tiny(), batch=batch)
        model = GistModel(condenser, tiny(), journal=journal, prompts=SHORT, **SMALL)
        return model.memorize([TEXT, Document(ISLAND, id="island")]), model.usage.requests

    expected, asked = memorize()
    head, *lines = journal.read_bytes().splitlines(keepends=True)
    left = [line for number, line in enumerate(lines) if number in kept]
    journal.write_bytes(head + b"".join(left))
    found, again = memorize()
    assert_same(found, expected)
    assert again <= asked
    assert (again == 0) == (len(left) == len(lines))


def test_the_usage_counts_what_was_read_and_written() -> None:
    model = GistModel(local_condenser(tiny()), hosted(), **SMALL)
    assert model.usage == Usage()
    memory = model.memorize(TEXT)
    asked = [gist for gist in memory.gists if gist.tokens > SMALL["gist_tokens"]]
    assert model.usage.requests == len(asked)
    assert model.usage.output_tokens <= len(asked) * 2 * SMALL["gist_tokens"]
    assert model.usage.input_tokens > memory.tokens
    assert not model.usage.estimated


def test_the_name_tells_the_weights_apart_and_can_be_given() -> None:
    one, same, other = text_model("llama"), text_model("llama"), text_model("qwen2")
    names = [local_condenser(model).name for model in (one, same, other)]
    assert names[0] == names[1] != names[2]
    assert local_condenser(one, name="mine").name == "mine"


def test_a_block_too_long_for_the_model_is_refused_before_it_is_read() -> None:
    condenser = local_condenser(text_model("llama", positions=1024))
    model = GistModel(condenser, hosted(), block_tokens=512, gist_tokens=256)
    with pytest.raises(InputError, match=r"made for 1024 together\. Give GistModel a smaller block_tokens"):
        model.memorize(TEXT)


@pytest.mark.parametrize("wrong", [hosted(), 7, "llama", str.upper])
def test_what_is_no_local_model_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="expected a BeaconModel or LongContextModel"):
        local_condenser(wrong)


@pytest.mark.parametrize("settings", [{"batch": 0}, {"batch": True}, {"batch": "8"}])
def test_a_batch_that_cannot_be_used_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="The batch is"):
        local_condenser(tiny(), **settings)


@pytest.mark.parametrize("settings", [{"name": "x"}, {"count_tokens": len}])
def test_what_is_for_clients_alone_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a local condenser has its own"):
        GistModel(local_condenser(tiny()), hosted(), **settings)


@pytest.mark.skipif(
    not (bundled_path() / "model.safetensors").exists(), reason="the bundled model is not built"
)
def test_one_beacon_model_writes_the_gists_and_reads_them_as_if_it_had_never_written() -> None:
    model = BeaconModel.from_pretrained(bundled_path(), device="cpu")
    memory = GistModel(local_condenser(model), model, **SMALL).memorize(TEXT)
    assert memory.blocks > 2
    fresh = BeaconModel.from_pretrained(bundled_path(), device="cpu")
    texts = [Document("\n\n".join(gist.text for gist in memory.gists))]
    asked = asks(["What is asserted?"], "span")
    expected = fresh.recollect(asked, fresh.memorize(texts), language="en")
    assert model.recollect(asked, memory.inner, language="en") == expected
