"""The beacon memory model: memorizes text and recalls from it.

In: texts, questions, token ids. Out: memories, replies, logits. The front of this package: reading, asking,
parts and tokens are put together here; it knows nothing of clues, chunks or retrieval.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from memorag_core.errors import CheckpointError, InputError
from memorag_core.memory.beacon.attention import is_fused
from memorag_core.memory.beacon.cache import BeaconMemory, Block
from memorag_core.memory.beacon.checkpoint import load_checkpoint
from memorag_core.memory.beacon.costs import BeaconCosts
from memorag_core.memory.beacon.generate import generate
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.layers import is_attached
from memorag_core.memory.beacon.partitions import BeaconParts
from memorag_core.memory.beacon.prefill import empty_block, read
from memorag_core.memory.beacon.quantized import Quantization, held_bytes, quantization_of
from memorag_core.memory.beacon.ratio import Fit
from memorag_core.memory.beacon.rotary import Rotary
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.beacon.serialize import identity, pack, unpack
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.checkpoint_files import CONFIG, USAGE
from memorag_core.memory.decoding import Generated, Replies
from memorag_core.memory.device import DeviceMap
from memorag_core.memory.footprint import Footprint, ModelShape
from memorag_core.memory.local_model import LocalModel
from memorag_core.memory.partitions import Cut
from memorag_core.memory.requests import LONGEST_QUESTION
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.system.locking import cached_property
from memorag_core.types import CLUE_KINDS, ClueKind

logger = logging.getLogger(__name__)


class BeaconModel(LocalModel[BeaconMemory]):
    """A beacon memory model (MemoRAG, arXiv 2409.05591; Activation Beacon, arXiv 2401.03462).

    It holds nothing of what it reads: a memory is a value that the caller keeps. Model and memories can be
    used by any number of threads at once.

    Args:
        model: a transformers model with beacons attached.
        settings: the settings it was attached with.
        ratio: raw tokens for one memory slot in new memories. "adapt" takes for each the smallest of the
            trained ratios at which its text, a request and a reply fit the positions that the model was made
            for. None for what ``usage`` names, else what the checkpoint asks for, the first of the trained
            ones or "adapt". A memory keeps its ratio when it is continued.
        tokens: the tokenizer; without one, only ``feed`` and ``greedy`` can be used.
        usage: how the model wants to be used.
        stop: token ids that end a reply.
        capacity: tokens that one memory holds well, a multiple of the window; longer texts are read into
            parts that are asked together. "auto" is what ``usage`` says, None is no limit. Where the ratio
            adapts, a part never holds more than the whole windows that fit the model's positions at its
            memory's ratio, which is also what "auto" is if ``usage`` says nothing; with None, a text that
            does not fit is refused.
        overlap: tokens that neighbouring parts share; "auto" is what ``usage`` says, or an eighth of a
            capacity that it does not name.
        offload: keep memories in RAM; they come to the model's device a block at a time, as they are asked.

    Raises:
        InputError: a ratio, capacity or overlap that cannot be used, or a model without beacons.
    """

    fed_in_step = True
    _memory_type = BeaconMemory

    def __init__(
        self,
        model: PreTrainedModel,
        settings: BeaconSettings,
        *,
        ratio: int | Literal["adapt"] | None = None,
        tokens: Tokens | None = None,
        usage: Usage | None = None,
        stop: frozenset[int] = frozenset(),
        capacity: int | Literal["auto"] | None = "auto",
        overlap: int | Literal["auto"] = "auto",
        offload: bool = False,
    ) -> None:
        if not is_attached(model):
            raise InputError(
                "The model has no beacons. attach() them first, or load it with from_pretrained()."
            )
        self.usage = usage or Usage()
        self.settings = settings
        self.tokens = tokens
        self.offload = offload
        self._host = Host.of(model)
        self._stop = stop
        self._fit = self._chosen_fit(ratio)
        self._start = self._empty_stream(ratio)
        self._cuts = {
            each: self._chosen_cut(capacity, overlap, each)
            for each in (self._fit.ratios if self._fit is not None else (self.ratio,))
        }
        self._cut = self._cuts[max(self._cuts)]
        if self.usage.pad_windows and tokens is not None and tokens.pad_id is None:
            raise InputError(
                "memorag-usage.json asks for filled windows, but the tokenizer has no pad token. Name one."
            )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        ratio: int | Literal["adapt"] | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        device_map: DeviceMap | None = None,
        quantize: Quantization | None = None,
        capacity: int | Literal["auto"] | None = "auto",
        overlap: int | Literal["auto"] = "auto",
        offload: bool = False,
    ) -> BeaconModel:
        """Load a memory model from a folder or by its name on the model hub; runs no code of the checkpoint.

        Args:
            name_or_path: such as "TommyChien/memorag-qwen2-7b-inst", or a folder of that format.
            ratio: see the class.
            device: "auto" takes a GPU if there is one.
            dtype: "auto" is the checkpoint's own on a GPU, float32 on a CPU.
            device_map: instead of ``device``, as transformers has it: {"": "cuda:1"}, or "auto" for the GPU
                with the most room. All of the model lies on one device.
            quantize: hold the base projections in 8 ("int8") or 4 bits ("int4"), with the extra
                ``quantized``. Memories of such a model are its own.
            capacity: see the class.
            overlap: see the class.
            offload: see the class.

        Raises:
            CheckpointError: the files are missing, damaged, or do not fit together.
            UnsupportedModelError: an architecture or setting that this package does not compute, or a device
                map over several devices.
            InputError: a ratio, device, capacity or overlap that cannot be used.
            MissingExtraError: quantization without the extra.
        """
        loaded = load_checkpoint(
            name_or_path, device=device, dtype=dtype, device_map=device_map, quantize=quantize
        )
        try:
            return cls(
                loaded.model,
                loaded.settings,
                ratio=ratio,
                tokens=loaded.tokens,
                usage=loaded.usage,
                stop=loaded.stop,
                capacity=capacity,
                overlap=overlap,
                offload=offload,
            )
        except InputError as error:
            if (ratio, capacity, overlap) != (None, "auto", "auto"):
                raise
            raise CheckpointError(
                f"'{name_or_path}' cannot be used as its own files say: {error} Correct its {USAGE} or "
                f"{CONFIG}, or get the checkpoint anew."
            ) from error

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model with its beacons."""
        return self._host.model

    @property
    def rotary(self) -> Rotary:
        """The model's rotary frequencies, to rotate keys of a memory with."""
        return self._host.rotary

    @property
    def ratio(self) -> int:
        """Raw tokens for one slot in new memories; where it adapts, in those of short texts and of feed()."""
        return self._start.ratio

    @property
    def adapts(self) -> bool:
        """Whether the ratio of a new memory follows from the length of its text."""
        return self._fit is not None

    def ratio_for(self, tokens: int) -> int:
        """The ratio of a new memory of so many raw tokens, the opening and padding among them.

        Where the ratio adapts and no memory holds that many, it is the smallest at which parts are as large
        as they can be.
        """
        if self._fit is None:
            return self.ratio
        holds = {ratio: cut.capacity + len(self._opening) for ratio, cut in self._cuts.items() if cut}
        if not holds:
            return self._fit.ratio(tokens)
        needed = min(tokens, max(holds.values()))
        return min(ratio for ratio, most in holds.items() if most >= needed)

    @property
    def window(self) -> int:
        """Raw tokens in a window."""
        return self._start.window

    @property
    def capacity(self) -> int | None:
        """Tokens that a part of a memory holds; None for any number, the most where the ratio adapts."""
        return self._cut.capacity + len(self._opening) if self._cut is not None else None

    @cached_property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able identity of weights, tokenizer and settings, for a saved memory to be checked against."""
        same: dict[str, Any] = identity(
            self.model, self.settings, ratio=self.ratio, tokens=self.tokens, opening=self._opening
        )
        quantization = quantization_of(self.model)
        coded = {"quantization": quantization} if quantization is not None else {}
        # A memory's own ratio is in its header.
        return {**same, **coded, **({"ratio": "adapt"} if self.adapts else {})}

    # Disk

    def pack(self, memory: BeaconMemory) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The memory as (tensors by name, JSON-able header), for a store."""
        return pack(memory, self._cut_at(memory.ratio))

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> BeaconMemory:
        """The inverse of ``pack``, on this model's device; takes the tensors without a copy where it can.

        Raises:
            StoreError: they do not fit this model, or each other.
        """
        ratio = header.get("ratio")
        cut = self._cut_at(ratio if type(ratio) is int else self.ratio)
        return unpack(
            self._host,
            cut,
            window=self.window,
            head=len(self._opening),
            tensors=tensors,
            header=header,
        )

    # Behind the front

    def _chosen_fit(self, ratio: int | Literal["adapt"] | None) -> Fit | None:
        """How the ratio adapts to a text; None where it is one for all."""
        by_itself = ratio is None and self.usage.ratio is None and self.settings.adapts
        if ratio != "adapt" and not by_itself:
            return None
        positions = int(self.model.config.max_position_embeddings)
        return Fit(positions, self.settings.window, self.settings.ratios, self.settings.reserved)

    def _empty_stream(self, ratio: int | Literal["adapt"] | None) -> Stream:
        if self._fit is not None:
            return Stream(self.settings.window, self._fit.ratios[0])
        chosen: Any = ratio if ratio is not None else (self.usage.ratio or self.settings.ratios[0])
        stream = Stream(self.settings.window, self.settings.check_ratio(chosen))
        if chosen not in self.settings.ratios:
            trained = ", ".join(map(str, self.settings.ratios))
            logger.warning(
                "ratio %d: the model was trained with %s and may remember less well", chosen, trained
            )
        return stream

    def _chosen_cut(
        self, capacity: int | Literal["auto"] | None, overlap: int | Literal["auto"], ratio: int
    ) -> Cut | None:
        stated = capacity == "auto" and self.usage.capacity is not None
        whole = self.usage.capacity if stated else capacity
        if whole == "auto":
            whole = self._fit.whole_windows(ratio) if self._fit is not None else None
        if whole is None:
            return None
        if not isinstance(whole, int) or whole < self.window or whole % self.window:
            raise InputError(
                f"The capacity is {whole!r}; expected a multiple of the model's window of {self.window} "
                "tokens."
            )
        if self._fit is not None:
            whole = min(whole, self._fit.whole_windows(ratio))
        shared = (self.usage.overlap if stated else whole // 8) if overlap == "auto" else overlap
        cut = Cut(whole - len(self._opening), shared)
        if not isinstance(shared, int) or not 0 <= shared < cut.capacity:
            raise InputError(f"The overlap is {shared!r}; expected 0 to {cut.capacity - 1} tokens.")
        return cut

    def _cut_at(self, ratio: int) -> Cut | None:
        """How the text of a memory of this ratio is cut."""
        below = (each for each in self._cuts if each <= ratio)
        return self._cuts[max(below, default=min(self._cuts))]

    def _check_fits(self, memory: BeaconMemory | None, tokens: int, ratio: int, cut: Cut | None) -> None:
        """Where the ratio adapts and nothing may be cut, refuse a text before it is read for nothing."""
        if self._fit is None or cut is not None:
            return
        total = tokens + (memory.tokens if memory is not None else len(self._opening))
        if total > self._fit.tokens(ratio):
            kept = "the ratio of the memory that is continued" if memory is not None else "the largest"
            raise InputError(
                f"The text has {total} tokens; at ratio {ratio}, {kept}, the model's positions hold "
                f"{self._fit.tokens(ratio)}. Give capacity='auto' to have it read into parts"
                + (", or memorize all of it anew." if memory is not None else ".")
            )

    def footprint(
        self,
        name: str | None = None,
        *,
        device: torch.device | None = None,
        quantize: Quantization | None = None,
        weights: int | None = None,
    ) -> Footprint:
        """What the model takes where it is, or, without numbers on the meta device, what it would take.

        Args:
            name: to tell it by; None for its own.
            device: where it would be loaded; None where it is.
            quantize: how its projections would be held.
            weights: bytes that its weights would take then.
        """
        host, loaded = self.model, device is None
        coding = quantization_of(host) if loaded else quantize
        place = host.device if device is None else device
        return Footprint(
            name=name or host.name_or_path or type(host).__name__,
            kind="beacon",
            costs=self.costs(
                on_cpu=place.type == "cpu", fused=is_fused(place, host.dtype), coded=coding is not None
            ),
            weights=held_bytes(host) if weights is None else weights,
            loaded=loaded,
            device=place,
            dtype=host.dtype,
            quantize=coding,
        )

    def costs(self, *, on_cpu: bool, fused: bool = True, coded: bool = False) -> BeaconCosts:
        """What reading and asking cost; see ``BeaconCosts`` for the arguments."""
        return BeaconCosts(
            shape=ModelShape.of(self.model.config, self.model.dtype),
            window=self.window,
            ratios=tuple(dict.fromkeys((self.ratio, *self.settings.ratios))),
            cuts=dict(self._cuts),
            head=len(self._opening),
            reply=max(self.usage.longest_reply(kind) for kind in CLUE_KINDS),
            on_cpu=on_cpu,
            fused=fused,
            coded=coded,
        )

    # What the front is told of this kind of model

    @property
    def _device(self) -> torch.device:
        return self._host.device

    @property
    def _vocabulary(self) -> int:
        return self._host.vocabulary

    def _empty_block(self, rows: int) -> Block:
        return empty_block(self._host, self._start, rows=rows)

    def _feed(self, block: Block, ids: Tensor) -> tuple[Block, Tensor]:
        reading = read(self._host, block, ids)
        return reading.block, self._host.logits(reading.hidden)

    def _decode(self, block: Block, prompt: Tensor, replies: Replies) -> list[Generated]:
        return generate(self._host, block, [prompt], replies)

    @property
    def _fill(self) -> int | None:
        return self.window if self.usage.pad_windows else None

    def _prompts(self, language: str | None) -> PromptSet:
        return self.usage.prompts if self.usage.prompts is not None else load_prompts(language)

    def _cut_for(self, memory: BeaconMemory) -> Cut | None:
        return self._cut_at(memory.ratio)

    def _ratio_of(self, memory: BeaconMemory) -> int:
        return memory.ratio

    def _parts(self, memory: BeaconMemory | None, more: int = 0) -> BeaconParts:
        ratio = memory.ratio if memory is not None else self.ratio_for(len(self._opening) + more)
        cut = self._cut_at(ratio)
        if more:
            self._check_fits(memory, more, ratio, cut)
        return BeaconParts(self._host, Stream(self.window, ratio), cut=cut, head=self._opening)

    @property
    def _least_score(self) -> float | None:
        return self.usage.least_score

    def _longest_question(
        self, kind: ClueKind, memory: BeaconMemory, *, request: int, given: int | None
    ) -> int:
        reply = self._longest_reply(kind, memory, request=request, given=given)
        return max(LONGEST_QUESTION, min(self.window, self.settings.reserved - reply - request))

    def _longest_reply(self, kind: ClueKind, memory: BeaconMemory, *, request: int, given: int | None) -> int:
        return given if given is not None else self.usage.longest_reply(kind)

    def _reply(self, block: Block, requests: Sequence[Tensor], replies: Replies) -> list[Generated]:
        nothing = self.tokens.none_id if self.tokens is not None else None
        return generate(self._host, block, requests, replies, stop=self._stop, nothing=nothing)

    def _entry_bytes(self) -> int:
        return self._host.allocate(rows=0, length=0).entry_bytes
