"""A model on this machine as condenser: the language model under a memory model writes the gists.

In: a loaded memory model, tasks. Out: replies. It uses of the model what is public on beacon and long-context
models alike, the transformers model and its tokens, and knows neither of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from memorag_core.errors import InputError
from memorag_core.memory.gist.condensing import Condenser, Task
from memorag_core.memory.llm import Said, Usage
from memorag_core.prompts import Parts, PromptSet
from memorag_core.system.locking import Lock

if TYPE_CHECKING:
    from memorag_core.memory.tokenizer import Tokens

BATCH = 8
"""Blocks at once: 32K tokens of keys and values, 1.8 GB for Qwen2 7B in bfloat16."""

ROOM = 2
"""The longest reply, in lengths of the gist that was asked for: few are longer, and a babbling one ends."""

_TEXT = "memorag-text-5ec0a1"  # stands for the text in a rendered conversation; no prompt holds it


class LocalModel(Protocol):
    """What is asked of the model: beacon and long-context models have it."""

    @property
    def model(self) -> Any:
        """The transformers model."""
        ...

    @property
    def tokens(self) -> Any:
        """Its tokens, ``memorag_core.memory.tokenizer.Tokens``."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """With the identity of weights and tokenizer."""
        ...


def local_condenser(model: LocalModel, *, batch: int = BATCH, name: str | None = None) -> Condenser:
    """The language model under a beacon or long-context model as condenser, decoding greedily.

    A beacon model condenses as the plain model that it was made of, so one loaded model can write the gists
    and read them: ``GistModel(local_condenser(model), model)``.

    Args:
        model: a ``BeaconModel`` or ``LongContextModel`` with a tokenizer.
        batch: blocks of a document that are condensed at once, 1 or more. It takes keys and values for all
            of their tokens.
        name: what memories and journals are checked against; None for one made of weights and tokenizer.

    Raises:
        InputError: a model of another shape or without tokenizer, or a batch below 1.
    """
    network, tokens = getattr(model, "model", None), getattr(model, "tokens", None)
    if not callable(getattr(network, "generate", None)) or not hasattr(tokens, "encode_text"):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a BeaconModel or LongContextModel with a "
            "tokenizer. An LLM behind a client is given to GistModel as it is."
        )
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise InputError(f"The batch is {batch!r}; expected 1 block or more.")
    if name is None:
        kept = {key: model.fingerprint.get(key) for key in ("model_type", "weights", "tokenizer")}
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        name = f"{kept['model_type']}-{digest[:16]}"
    assert tokens is not None  # it has encode_text
    return _LocalCondenser(network, tokens, batch, name)


class _LocalCondenser:
    def __init__(self, network: Any, tokens: Tokens, batch: int, name: str) -> None:
        self.together = batch
        self.name = name
        self._network = network
        self._tokens = tokens
        self._usage = Usage()
        self._lock = Lock()

    @property
    def usage(self) -> Usage:
        """Tokens that were read and written so far."""
        return self._usage

    def count_tokens(self, text: str) -> int:
        """By the model's own tokenizer."""
        return len(self._tokens.encode_text(text))

    def condense(
        self,
        runs: Sequence[Sequence[Task]],
        *,
        gist_tokens: int,
        after_failure: str,
        replied: Callable[[int, int, Said], None],
    ) -> None:
        """One run after the other.

        Raises:
            InputError: a request and its reply are longer than what the model was made for.
        """
        for number, run in enumerate(runs):
            for item, said in enumerate(self._run(run, gist_tokens * ROOM, after_failure)):
                with self._lock:
                    self._usage = self._usage.after(said)
                replied(number, item, said)

    def _run(self, run: Sequence[Task], longest: int, after_failure: str) -> list[Said]:
        import torch
        from transformers import GenerationConfig

        prompts = [self._ids(task.prompt) for task in run]
        length = max(map(len, prompts))
        config = self._network.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and length + longest > positions:
            raise InputError(
                f"The request for {run[0].block.name} has up to {length} tokens, its reply {longest}; "
                f"{self.name!r} was made for {positions} together. Give GistModel a smaller block_tokens or "
                f"gist_tokens. {after_failure}"
            )
        own = self._network.generation_config
        ends = {own.eos_token_id} if isinstance(own.eos_token_id, int) else {*(own.eos_token_id or ())}
        pad = next((one for one in (self._tokens.pad_id, self._tokens.end_id) if one is not None), 0)
        ids = torch.full((len(run), length), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            mask[row, length - len(prompt) :] = 1
        with torch.inference_mode():
            said = self._network.generate(
                ids.to(self._network.device),
                attention_mask=mask.to(self._network.device),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=longest,
                    eos_token_id=sorted(ends) or None,
                    pad_token_id=pad,
                ),
            )
        rows = said[:, length:].tolist()
        return [self._said(len(prompt), row, ends) for prompt, row in zip(prompts, rows, strict=True)]

    def _said(self, read: int, row: Sequence[int], ends: set[int]) -> Said:
        end = next((place for place, token in enumerate(row) if token in ends), None)
        ids = row[:end]
        return Said(self._tokens.decode(ids), read, len(ids), finished=end is not None)

    def _ids(self, prompt: Parts) -> list[int]:
        """The request in the model's own chat format; a special token spelled out in the block is text."""
        before, after, tokenizer = prompt.before, prompt.after, self._tokens.tokenizer
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": before + _TEXT + after}]
            told = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            before, _, after = told.partition(_TEXT)
            opening: list[int] = []
        else:
            opening = self._tokens.encode_opening(_raw(""))  # what the tokenizer puts before any text
        filled = self._tokens.encode_text(prompt.filled).tolist()
        return [*opening, *self._parsed(before), *filled, *self._parsed(after)]

    def _parsed(self, text: str) -> list[int]:
        """Text in which special tokens are special, as ids."""
        return self._tokens.encode_request(_raw(text), "key_point", "")


def _raw(after: str) -> PromptSet:
    """Prompts of a text alone with something behind it, in no format."""
    return PromptSet(
        language="",
        context="{context}" + after,
        tasks={"key_point": ""},
        answer="{evidence}{question}",
        summary_request="",
        chat=False,
    )
