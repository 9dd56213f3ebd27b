"""The loss of a beacon model over whole sequences, in one pass over all windows.

In: an attached model, token ids. Out: a scalar with gradients. Knows nothing of where the ids come from.
Source: Activation Beacon (arXiv 2401.03462), section 3.3; MemoRAG (arXiv 2409.05591), section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from memorag_core.errors import InputError
from memorag_core.memory.beacon.layers import run
from memorag_core.memory.beacon.rotary import Rotary
from memorag_training.packing import Packing, pack

IGNORED = -100
"""Label of a token whose prediction is not part of the loss."""


@dataclass(slots=True)
class Watch:
    """Keeps how some places look at the memory in one layer.

    Attributes:
        layer: the layer.
        heads: its first so many heads.
        places: [R] flat places of the queries.
        scores: [R, heads, B * M] scores against the slots of all documents, once the layer has run.
    """

    layer: int
    heads: int
    places: Tensor
    scores: Tensor | None = None

    def see(self, query: Tensor, memory_key: Tensor, scaling: float) -> None:
        """Take the scores: query [N, heads, D], memory_key [B, H, M, D]."""
        group = query.shape[1] // memory_key.shape[1]
        keys = memory_key.transpose(0, 1).flatten(1, 2)  # [H, B * M, D]
        keys = keys[torch.arange(self.heads, device=keys.device) // group].float()
        asked = query.index_select(0, self.places)[:, : self.heads].float()  # [R, heads, D]
        with torch.autocast(query.device.type, enabled=False):
            self.scores = torch.einsum("rhd,hsd->rhs", asked, keys) * scaling


@dataclass(frozen=True, slots=True)
class PackedPass:
    """The attention of a packed sequence: every block over its documents' slots and its own places."""

    packing: Packing
    rotary: Rotary
    watch: Watch | None = None

    @property
    def raw(self) -> int:
        """Raw tokens at the head of the flat sequence."""
        return self.packing.raw

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See ``BeaconPass.attend`` of the beacon layers; here B is 1 and N the flat sequence."""
        packing = self.packing
        places = query.shape[2]
        flat_query = query[0].transpose(0, 1)  # [N, heads, D]
        flat_key = key[0].transpose(0, 1)  # [N, H, D]
        flat_value = value[0].transpose(0, 1)
        memory_key = self._rows(flat_key, packing.memory)  # [B, H, M, D]
        memory_key = self.rotary.shift(memory_key, packing.memory_shift)
        memory_value = self._rows(flat_value, packing.memory)
        if self.watch is not None and self.watch.layer == layer:
            self.watch.see(flat_query, memory_key, scaling)
        pieces, targets = [], []
        for block in packing.blocks:
            attended = self._attend(
                self._rows(flat_query, block.places),
                torch.cat((memory_key[block.memory_row], self._rows(flat_key, block.places)), dim=2),
                torch.cat((memory_value[block.memory_row], self._rows(flat_value, block.places)), dim=2),
                block.mask,
                scaling,
            )  # [S, heads, L, D]
            pieces.append(attended.transpose(1, 2).flatten(0, 1).index_select(0, block.source))
            targets.append(block.target)
        inverse = torch.empty(places, dtype=torch.long, device=query.device)
        inverse[torch.cat(targets)] = torch.arange(places, device=query.device)
        return torch.cat(pieces).index_select(0, inverse)[None]  # [1, N, heads, D]

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
        # Autocast would round keys to bfloat16 on a CPU, which is both less exact and slower there.
        precise = query.device.type == "cpu"
        with torch.autocast(query.device.type, enabled=False):
            if precise:
                query, key, value = query.float(), key.float(), value.float()
            else:
                query, key = query.to(value.dtype), key.to(value.dtype)
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
            )

    @staticmethod
    def _rows(flat: Tensor, places: Tensor) -> Tensor:
        """[N, H, D] and places [S, L] -> [S, H, L, D]."""
        picked = flat.index_select(0, places.reshape(-1))
        return picked.view(*places.shape, *flat.shape[1:]).transpose(1, 2)


def sequence_loss(
    model: PreTrainedModel, input_ids: Tensor, labels: Tensor, *, window: int, ratio: int
) -> Tensor:
    """The language modelling loss through the memory: mean next-token loss over all windows.

    The last window gets no beacons, gradients flow through the memory across windows.

    Args:
        model: an attached model.
        input_ids: [B, T] int64.
        labels: [B, T] int64, the token at each place, or ``IGNORED``; shifted here.
        window: raw tokens in a window.
        ratio: raw tokens for one beacon.
    """
    if input_ids.ndim != 2 or input_ids.shape != labels.shape or input_ids.shape[1] < 2:
        raise InputError(
            f"input_ids have shape {tuple(input_ids.shape)} and labels {tuple(labels.shape)}; "
            "expected the same [B, T] with T of 2 or more."
        )
    batch, tokens = input_ids.shape
    packing = pack(batch, tokens, window=window, ratio=ratio).to(input_ids.device)
    hidden = hidden_states(model, input_ids.reshape(1, -1), packing)
    predicted = hidden[: batch * tokens].view(batch, tokens, -1)[:, :-1]
    return F.cross_entropy(
        model.lm_head(predicted).flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def hidden_states(
    model: PreTrainedModel, flat_ids: Tensor, packing: Packing, watch: Watch | None = None
) -> Tensor:
    """Run a packed sequence: flat_ids [1, raw] -> hidden states of the raw tokens, [raw, hidden]."""
    running = PackedPass(packing, Rotary.of(model), watch)
    return run(model, flat_ids, packing.beacons, packing.positions, running)[0, : packing.raw]


@dataclass(frozen=True, slots=True)
class Row:
    """A question on a document.

    Attributes:
        document: which.
        prompt: token ids of the request.
        target: token ids of what is to be recalled.
        start: where in the document the reply is found; tokens ``start`` to ``stop``.
        stop: its end; equal to ``start`` where the reply does not stand in the document.
    """

    document: int
    prompt: tuple[int, ...]
    target: tuple[int, ...]
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class Episode:
    """Documents of one length and the question rows on them."""

    documents: Tensor  # [B, T] int64
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class EpisodeLoss:
    """Losses of an episode, in nats a token.

    Attributes:
        recall: mean over the target tokens.
        focused: mean over the target tokens, each weighted by the probability that it was not given (a
            normalised focal loss, Lin et al., arXiv 1708.02002). Copying on is easy and most of a target;
            finding the place is hard and a token or two.
        document: mean over the sampled document tokens.
        correct: share of target tokens that are the most probable ones, teacher-forced.
        found: share of rows whose first target token is.
        placed: mean over the rows whose reply stands in the document: how improbable its slots are, among
            the slots of all documents, to the attention of the prompt's last token in the watched layer.
    """

    recall: Tensor
    focused: Tensor
    document: Tensor
    correct: Tensor
    found: Tensor
    placed: Tensor


def episode_loss(
    model: PreTrainedModel,
    episode: Episode,
    *,
    window: int,
    ratio: int,
    gaps: Sequence[int] = (),
    document_positions: Tensor | None = None,
    watched: tuple[int, int] | None = None,
) -> EpisodeLoss:
    """Question rows asked of documents that are read once, in one pass.

    Args:
        model: an attached model.
        episode: documents whose length is a whole number of windows, and rows of at most one window.
        window: raw tokens in a window.
        ratio: raw tokens for one beacon.
        gaps: see ``pack``.
        document_positions: [n] flat places of document tokens whose next token counts in ``document``;
            none by default.
        watched: a layer and how many of its heads ``placed`` is of; it is 0 without.
    """
    documents = episode.documents
    device = documents.device
    batch, tokens = documents.shape
    lengths = [(row.document, len(row.prompt) + len(row.target)) for row in episode.rows]
    packing = pack(batch, tokens, window=window, ratio=ratio, questions=lengths, gaps=gaps).to(device)
    asked = [token for row in episode.rows for token in (*row.prompt, *row.target)]
    flat = torch.cat((documents.reshape(-1), torch.tensor(asked, dtype=torch.long, device=device)))
    asking = [row for row in episode.rows if row.stop > row.start]
    watch = None
    if watched is not None and asking:
        watch = Watch(*watched, torch.tensor(_ends_of_prompts(episode, batch * tokens), device=device))
    hidden = hidden_states(model, flat[None], packing, watch)

    places: list[int] = []
    heads: list[int] = []  # which of the places come first in their rows
    start = batch * tokens
    for row in episode.rows:
        first = start + len(row.prompt) - 1
        heads.append(len(places))
        places.extend(range(first, first + len(row.target)))
        start += len(row.prompt) + len(row.target)
    at = torch.tensor(places, dtype=torch.long, device=device)
    logits = model.lm_head(hidden.index_select(0, at)).float()
    wanted = flat.index_select(0, at + 1)
    losses = F.cross_entropy(logits, wanted, reduction="none")
    missed = 1 - torch.exp(-losses.detach())
    focused = (losses * missed).sum() / missed.sum().clamp_min(1e-6)
    right = (logits.argmax(-1) == wanted).float()
    firsts = torch.tensor(heads, dtype=torch.long, device=device)
    document = hidden.new_zeros(())
    if document_positions is not None and len(document_positions):
        inner = document_positions[document_positions % tokens != tokens - 1]
        document = F.cross_entropy(
            model.lm_head(hidden.index_select(0, inner)).float(), flat.index_select(0, inner + 1)
        )
    placed = hidden.new_zeros(())
    if watch is not None and watch.scores is not None:
        placed = _placed(watch.scores, asking, packing.memory.shape[1], ratio)
    return EpisodeLoss(losses.mean(), focused, document, right.mean(), right[firsts].mean(), placed)


def _ends_of_prompts(episode: Episode, first: int) -> list[int]:
    """Flat places of the last prompt tokens of the rows whose reply stands in their document."""
    ends = []
    for row in episode.rows:
        if row.stop > row.start:
            ends.append(first + len(row.prompt) - 1)
        first += len(row.prompt) + len(row.target)
    return ends


def _placed(scores: Tensor, rows: Sequence[Row], slots: int, ratio: int) -> Tensor:
    """Scores [R, heads, B * slots] -> mean over rows and heads of -log of the share on the reply's slots."""
    wanted = torch.zeros(len(rows), scores.shape[2], dtype=torch.bool)
    for index, row in enumerate(rows):
        first = row.document * slots
        wanted[index, first + row.start // ratio : first + (row.stop - 1) // ratio + 1] = True
    there = scores.masked_fill(~wanted[:, None].to(scores.device), -torch.inf).logsumexp(dim=-1)
    return (scores.logsumexp(dim=-1) - there).mean()
