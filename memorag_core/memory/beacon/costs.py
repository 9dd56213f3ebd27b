"""What reading and asking cost in bytes, before anything is loaded: pure arithmetic.

In: the shape of a model, a number of tokens, a ratio. Out: bytes. Knows no tensors and no device's free
memory.

A memory has a slot for every ``ratio`` tokens of closed windows (Activation Beacon, arXiv 2401.03462, section
3; MemoRAG, arXiv 2409.05591) and all entries, raw and beacon, of the window that is not full. Reading holds,
beside that, the room of the window in work and what one layer of the model needs for it; the terms below
follow ``prefill``, ``partitions``, ``attention`` and ``generate`` line by line. Where a text may end they
take what its longest window needs, so that more tokens never need less.

Shape letters: L layers, B rows, H kv heads, N entries of a run, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memorag_core.memory.beacon.attention import MASK_LIMIT, QUERY_ROWS, SCORE_LIMIT
from memorag_core.memory.beacon.partitions import BLOCK_ROWS, READ_TOKENS, READ_TOKENS_CPU
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.beacon.settings import MAX_RATIO
from memorag_core.memory.footprint import ID_BYTES, REQUEST, Costs
from memorag_core.memory.kv_cache import SPARE
from memorag_core.memory.local_model import ASKED_BYTES, ASKED_ROWS
from memorag_core.memory.partitions import Cut

HIDDEN_MLP, HIDDEN_ATTENTION = 5, 4
"""Hidden states that are alive in the MLP and in the attention of a layer: of the window before, of the
embedding, of the layer's input, after its norm; in the MLP also the sum after attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeaconCosts(Costs):
    """What a beacon memory model costs.

    Attributes:
        window: raw tokens of a window.
        cuts: how long texts are cut into parts, by ratio; None for one memory of any length.
        reply: the longest reply to a request.
        on_cpu: whether memory counts where it is written to, as on a CPU, or where it is allocated.
        fused: whether attention holds no scores while reading.
        coded: whether projections are quantized, so that each is decoded when it is used.
    """

    window: int
    cuts: Mapping[int, Cut | None]
    reply: int = 512
    on_cpu: bool = True
    fused: bool = True
    coded: bool = False

    @property
    def longest_ratio(self) -> int:
        """The largest ratio that can be computed."""
        return min(MAX_RATIO, self.window)

    @property
    def entry(self) -> int:
        """Of one slot, or of any other entry: 2 L H D numbers."""
        shape = self.shape
        return 2 * shape.layers * shape.kv_heads * shape.size * shape.itemsize

    def cut_at(self, ratio: int) -> Cut | None:
        """As ``BeaconModel`` chooses it."""
        below = (each for each in self.cuts if each <= ratio)
        return self.cuts[max(below, default=min(self.cuts))]

    def slots(self, tokens: int, ratio: int) -> int:
        """Slots of all parts."""
        count, full, last = self._streams(tokens, ratio)
        return count * full.slots + last.slots

    def memory(self, tokens: int, ratio: int) -> int:
        """Slots, and the entries of unfinished windows."""
        return self.entry * (self.slots(tokens, ratio) + self._streams(tokens, ratio)[2].entries)

    def reading(self, tokens: int, ratio: int) -> int:
        """Ids, and the most of what each part and each block of parts needs beside those that are done."""
        ids = ID_BYTES * tokens
        count, full, last = self._streams(tokens, ratio)
        part = self.entry * full.slots
        peaks = [self._one_stream(last.tokens, ratio) + count * part] if last.tokens else []
        if count > BLOCK_ROWS and count % BLOCK_ROWS:
            done = count - count % BLOCK_ROWS
            peaks.append(self._rows(BLOCK_ROWS, full) + (done - BLOCK_ROWS) * part)
            peaks.append(self._rows(count - done, full) + done * part)
        elif count:
            rows = min(count, BLOCK_ROWS)
            peaks.append(self._rows(rows, full) + (count - rows) * part)
        return ids + max(peaks)

    def appending(self, tokens: int, ratio: int, *, before: int) -> int:
        """Where one memory of any length has no room left, the old slots and a larger room, once."""
        if not before:
            return self.reading(tokens, ratio)
        if self.cut_at(ratio) is not None:
            count, full, last = self._streams(before, ratio)
            moved = count % BLOCK_ROWS * full.slots + last.slots + last.entries
            return self.reading(before + tokens, ratio) + self.entry * moved
        old = Stream(self.window, ratio, before)
        room = max(self._room(before + tokens, ratio), old.slots + old.slots // SPARE)
        held = self.entry * (old.slots + old.entries)
        work = self._work(before + tokens, ratio)
        return ID_BYTES * tokens + held + self.entry * room + work

    def asking(self, tokens: int, ratio: int, *, questions: int) -> int:
        """The memory, and the most that one block of parts takes when it is asked."""
        count, full, last = self._streams(tokens, ratio)
        rows_asked = max(1, min(ASKED_ROWS, ASKED_BYTES // (self.entry * (REQUEST + self.reply))))
        most = 0
        for rows, stream in ((min(count, BLOCK_ROWS), full), (1, last)):
            if rows and stream.tokens:
                lanes = min(questions, max(1, rows_asked // rows))
                most = max(most, self._asked(lanes * rows, stream, ratio))
        return self.memory(tokens, ratio) + most

    # The terms

    def _streams(self, tokens: int, ratio: int) -> tuple[int, Stream, Stream]:
        """How many parts are full and where each of them stands, and where the last one stands."""
        count, full, last = self.lengths(tokens, ratio)
        return count, Stream(self.window, ratio, full), Stream(self.window, ratio, last)

    def _room(self, tokens: int, ratio: int) -> int:
        """Entries of the room that one stream is read into: its slots, and its longest window behind them."""
        stream = Stream(self.window, ratio, tokens)
        return stream.slots + (max(self.window, stream.entries) if tokens >= self.window else stream.entries)

    def _one_stream(self, tokens: int, ratio: int) -> int:
        return self.entry * self._room(tokens, ratio) + self._work(tokens, ratio)

    def _work(self, tokens: int, ratio: int) -> int:
        """What one stream needs beside its room: a layer of a window, or the copy of an unfinished one."""
        stream = Stream(self.window, ratio, tokens)
        raw = min(tokens, self.window)
        open_entries = Stream(self.window, ratio, min(tokens, self.window - 1)).entries
        entries = raw + -(-raw // ratio)
        return max(self._window(1, entries, stream.slots + entries), self.entry * open_entries)

    def _rows(self, rows: int, stream: Stream) -> int:
        """Full parts that become one block: their slots, and the room that a few at a time are read in."""
        together = min(rows, max(1, (READ_TOKENS_CPU if self.on_cpu else READ_TOKENS) // self.window))
        work = together * self.entry * (stream.slots + self.window)
        part = self.entry * stream.slots
        entries = self.window + -(-self.window // stream.ratio)
        layer = self._window(together, entries, stream.slots + entries)
        if not self.on_cpu:
            return rows * part + work + layer
        # What is allocated and not yet written to costs nothing.
        rounds, rest = divmod(rows, together)
        peaks = [(rounds - 1) * together * part + layer, rows * part]
        if rest:
            peaks.append(rounds * together * part + self._window(rest, entries, stream.slots + entries))
        return work + max(peaks)

    def _window(self, rows: int, entries: int, seen: int) -> int:
        """What a layer needs for a window: of its MLP or its attention, whichever is more."""
        shape = self.shape
        number = rows * entries * shape.itemsize
        hidden, query = number * shape.hidden, number * shape.heads * shape.size
        key = number * shape.kv_heads * shape.size
        angles = 2 * entries * shape.size * shape.itemsize
        visible = entries * entries
        mlp = HIDDEN_MLP * hidden + 3 * number * shape.intermediate
        rotating = HIDDEN_ATTENTION * hidden + 4 * query + 2 * key
        queries = min(entries, QUERY_ROWS)
        mask = min(queries * seen, MASK_LIMIT)  # of booleans, and of numbers where the kernel wants them
        scores = 0 if self.fused else self._plain_scores(rows, mask, seen)
        attended = query * (entries // queries * queries) // entries
        attending = HIDDEN_ATTENTION * hidden + query + 2 * key
        attending += max(mask * (1 + shape.itemsize) + attended + scores, 2 * query)
        decoded = shape.intermediate * shape.hidden * shape.itemsize if self.coded else 0
        return visible + angles + decoded + max(mlp, rotating, attending)

    def _plain_scores(self, rows: int, mask: int, seen: int) -> int:
        """Attention without a fused kernel: scores and their softmax in float32, keys and values by head."""
        shape = self.shape
        return rows * shape.heads * (2 * 4 * mask + 2 * max(4, shape.itemsize) * seen * shape.size)

    def _asked(self, rows: int, stream: Stream, ratio: int) -> int:
        """Own entries of so many rows that are asked at once, and what a layer needs for their requests."""
        shape = self.shape
        request = REQUEST + -(-REQUEST // ratio)
        columns = 2 * REQUEST + self.reply
        written = request + self.reply + -(-self.reply // ratio)
        own = self.entry * rows * (columns if written <= columns else 3 * columns)
        # Scores of what is not slots: of the request among itself, then of each token with all before it.
        query = rows * shape.heads
        asked = query * request * (stream.entries + request)
        scores = max(min(asked, SCORE_LIMIT), query * (stream.entries + written))
        each = shape.itemsize + 8  # in float32 from half precision, and their softmax
        number = rows * request * shape.itemsize
        layer = number * (
            HIDDEN_MLP * shape.hidden + max(3 * shape.intermediate, 4 * shape.heads * shape.size)
        )
        logits = rows * shape.vocabulary * (shape.itemsize + 4)
        return own + max(scores * each + layer, logits)
