"""A memory model that really remembers, small enough for any test: it keeps sentences and recalls the best.

It reads documents into parts of a stated capacity, continues a memory, knows synonyms (so that a clue can
hold words that the question lacks), and packs its memory into arrays, as the beacon model does with its own.
Beside it an embedder that counts words, and a beacon checkpoint with random weights.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorag_core import Ask, ClueKind, Document, Recollection, StoreError
from memorag_core.protocols import ShowProgress, Watch

SYNONYMS = {
    "mend": "repair",
    "mends": "repair",
    "repairs": "repair",
    "fix": "repair",
    "timepieces": "clock",
    "watch": "clock",
    "physician": "doctor",
    "cures": "heal",
    "heals": "heal",
    "医者": "大夫",
}
"""Words that mean the same to the model, as a trained one has learned."""


@dataclass(frozen=True, slots=True)
class SentenceMemory:
    """The sentences of each part, in the order of reading."""

    kept: tuple[tuple[str, ...], ...]

    @property
    def tokens(self) -> int:
        return sum(len(_words(sentence)) for part in self.kept for sentence in part)

    @property
    def parts(self) -> int:
        return len(self.kept)

    @property
    def nbytes(self) -> int:
        return sum(len(sentence.encode()) for part in self.kept for sentence in part)


class SentenceModel:
    """Remembers sentences; ``capacity`` is how many a part holds."""

    def __init__(self, *, capacity: int = 8, synonyms: Mapping[str, str] = SYNONYMS) -> None:
        self.capacity = capacity
        self.synonyms = synonyms
        self.asked = 0  # calls of recollect, for tests of how often a memory is asked

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"kind": "sentences", "settings": {"capacity": self.capacity, "synonyms": len(self.synonyms)}}

    def memorize(
        self,
        text_or_documents: str | Sequence[Document],
        memory: SentenceMemory | None = None,
        *,
        progress: ShowProgress = None,
    ) -> SentenceMemory:
        texts = (
            [text_or_documents] if isinstance(text_or_documents, str) else [d.text for d in text_or_documents]
        )
        before = [sentence for part in memory.kept for sentence in part] if memory else []
        sentences = before + [sentence for text in texts for sentence in _sentences(text)]
        starts = range(0, len(sentences), self.capacity)
        return SentenceMemory(tuple(tuple(sentences[start : start + self.capacity]) for start in starts))

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: SentenceMemory,
        *,
        language: str | None = None,
        max_new_tokens: int | None = None,
        passages: Any = None,
        watch: Watch | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        self.asked += 1
        said: list[tuple[Recollection, ...]] = []
        for number, ask in enumerate(asks):
            if watch is not None and not watch.goes_on():
                said.append((Recollection("", finished=False),))
                continue
            said.append(self._recollect(ask.question, memory, ask.kind))
            if watch is not None:
                for reply in said[-1]:
                    watch.said(number, reply)
        return tuple(said)

    def pack(self, memory: SentenceMemory) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        tensors = {
            f"parts.{number}": np.frombuffer("\n".join(part).encode(), dtype=np.uint8)
            for number, part in enumerate(memory.kept)
        }
        return tensors, {"parts": len(memory.kept)}

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> SentenceMemory:
        names = [f"parts.{number}" for number in range(header["parts"])]
        if set(names) != set(tensors):
            raise StoreError(
                f"Found the tensors {sorted(tensors)}, expected {names}; memorize the text again."
            )
        return SentenceMemory(tuple(tuple(bytes(tensors[name]).decode().split("\n")) for name in names))

    def _recollect(self, question: str, memory: SentenceMemory, kind: ClueKind) -> tuple[Recollection, ...]:
        wanted = self._meanings(question)
        recalled = []
        for number, part in enumerate(memory.kept):
            shared = [len(wanted & self._meanings(sentence)) for sentence in part]
            best = shared.index(max(shared))
            score = math.log((1 + shared[best]) / (1 + len(wanted)))
            text = f"Where does it say: {part[best]}" if kind == "query" else part[best]
            recalled.append(Recollection(text=text, score=score, part=number, tokens=len(_words(part[best]))))
        return tuple(sorted(recalled, key=lambda recollection: -recollection.score))

    def _meanings(self, text: str) -> set[str]:
        return {self.synonyms.get(word, word) for word in _words(text)}


def asks(
    questions: Sequence[str], kind: Any, parts: Sequence[Collection[int] | None] | None = None
) -> list[Ask]:
    """Questions for one kind of clue, each put to its parts or to all."""
    some = parts if parts is not None else [None] * len(questions)
    return [
        Ask(question, kind, None if own is None else tuple(own))
        for question, own in zip(questions, some, strict=True)
    ]


class WordEmbedder:
    """Vectors of hashed word counts; ``salt`` makes another embedder of the same size."""

    def __init__(self, size: int = 64, *, salt: str = "") -> None:
        self.size = size
        self.salt = salt
        self.encoded: list[str] = []  # passages, for tests of what is encoded again

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.encoded += texts
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * self.size
        for word in _words(text):
            vector[zlib.crc32((self.salt + word).encode()) % self.size] += 1.0
        return vector


def write_beacon_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """A beacon model of random weights, with bytes for tokens and parts of 64 of them; it babbles."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from memorag_core.memory.beacon import BeaconSettings, save_checkpoint
    from memorag_core.memory.beacon.layers import attach

    vocabulary = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
    )
    keys = {"beacon_window": 32, "beacon_stride": 32, "beacon_ratio": [4, 8]}
    settings = BeaconSettings.from_config({**config.to_dict(), **keys})
    model = LlamaForCausalLM(config).eval()
    attach(model, settings)
    save_checkpoint(model, folder, settings=settings)
    tasks = {kind: f"\n{kind}: {{question}}\n" for kind in ("span", "query", "answer")}
    usage = {
        "format": 1,
        "capacity": 64,
        "prompts": {"language": "en", "chat": False, "context": "{context}", "tasks": tasks},
        "max_new_tokens": dict.fromkeys(tasks, 24),
    }
    (folder / "memorag-usage.json").write_text(json.dumps(usage))
    return folder


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in re.split(r"(?<=[.!?。！？])\s*|\n+", text) if sentence.strip()]


def _words(text: str) -> list[str]:
    """Latin words; of Chinese and Japanese, which have no spaces, all pairs of neighbours."""
    return [
        a or b for a, b in re.findall(r"([a-z0-9']+)|(?=([\u3040-\u30ff\u4e00-\u9fff]{2}))", text.casefold())
    ]
