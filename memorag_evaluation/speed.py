"""Speed beside its floor: what reading and decoding cost, and what their products alone cost.

In: a beacon model, lengths. Out: functions that run the matrix products and the attention of reading or of
decoding on numbers of the right shapes and nothing else, and timings of several functions in turn. Knows no
text. The floor masks nothing, rotates nothing, normalises nothing, copies nothing and moves no cache: no
implementation that multiplies the same matrices with the same library is faster.

Shape letters: B rows, H kv heads, G query heads of each, N entries of a run, M slots, D head size.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel, BeaconSettings
from memorag_core.memory.beacon.cache import Block, KeyValues
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.layers import BeaconLinear, attach
from memorag_core.memory.beacon.partitions import BLOCK_ROWS, READ_TOKENS
from memorag_core.memory.beacon.schedule import Step, Stream, steps
from memorag_core.memory.partitions import Cut
from memorag_core.prompts import load_prompts

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a random Qwen2 model.

    The defaults are those of the model with half a billion parameters, with fewer layers and a small
    vocabulary, neither of which changes what a layer costs.
    """

    hidden: int = 896
    layers: int = 4
    heads: int = 14
    kv_heads: int = 2
    ffn: int = 4864
    vocabulary: int = 4096


@torch.inference_mode()
def random_model(shape: Shape, *, window: int, ratio: int, seed: int = 0) -> BeaconModel:
    """A beacon model of that shape that has learned nothing; it takes token ids only."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=1 << 17,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=0,
    )
    model = Qwen2ForCausalLM(config)
    settings = BeaconSettings(window=window, ratios=(ratio,))
    attach(model, settings)
    return BeaconModel(model.eval().requires_grad_(False), settings, ratio=ratio)


def random_memory(model: BeaconModel, *, slots: int, seed: int = 0) -> BeaconMemory:
    """A memory of so many slots of random numbers, at the start of a window.

    Args:
        model: Whose memory it is to be.
        slots: M, a whole number of windows' worth.
        seed: Of the numbers.

    Raises:
        InputError: Slots that no whole number of windows leaves behind.
    """
    if slots < 1 or slots * model.ratio % model.window:
        raise InputError(
            f"A memory of {slots} slots was asked for; expected a multiple of the "
            f"{model.window // model.ratio} that a window leaves behind."
        )
    torch.manual_seed(seed)
    host = Host.of(model.model)
    held = host.allocate(rows=1, length=slots)
    filled = KeyValues(held.keys.normal_(), held.values.normal_())
    stream = Stream(model.window, model.ratio, slots * model.ratio)
    return BeaconMemory((Block(stream, filled, filled.span(0, 0)),), stream.tokens)


# --- floors -------------------------------------------------------------------------------------------------


@torch.inference_mode()
def reading_floor(model: BeaconModel, tokens: int) -> Run:
    """The products and the attention of reading so many tokens, in parts where the capacity asks for them.

    Args:
        model: Its own weights are used. A capacity must be the one that its ``memorag-usage.json`` states.
        tokens: Of the text, what fills its last window included.
    """
    batches = [(rows, list(steps(stream, length))) for rows, stream, length in _batches(model, tokens)]
    host, layers = Host.of(model.model), _layers(model)
    rows = max(rows for rows, _ in batches)
    entries = max(step.raw + step.beacons for _, some in batches for step in some)
    keys = max(_keys(step) for _, some in batches for step in some)
    store = host.allocate(rows=rows, length=keys)
    store.keys.normal_(), store.values.normal_()
    size, query_heads = store.keys.shape[-1], model.model.config.num_attention_heads
    hidden = _numbers(host, rows * entries, model.model.config.hidden_size)
    inner = _numbers(host, rows * entries, model.model.config.intermediate_size)
    mixed = _numbers(host, rows * entries, query_heads * size)
    query = _numbers(host, rows, query_heads, entries, size)

    @torch.inference_mode()
    def run() -> None:
        for rows, some in batches:
            for step in some:
                count = step.raw + step.beacons
                for number, layer in enumerate(layers):
                    _project(layer, hidden, mixed, rows * step.raw, rows * step.beacons)
                    F.scaled_dot_product_attention(
                        query[:rows, :, :count],
                        store.keys[number, :rows, :, : _keys(step)],
                        store.values[number, :rows, :, : _keys(step)],
                        enable_gqa=query_heads != store.keys.shape[2],
                    )
                    _transform(layer, hidden, inner, rows * count)

    return run


@torch.inference_mode()
def decoding_floor(model: BeaconModel, *, slots: int, rows: int, tokens: int) -> Run:
    """The products and the attention of decoding: so many tokens for each of the rows that share one memory.

    One token in ``ratio`` brings a beacon with it. All rows' queries of a kv head meet its slots in one
    product, by whichever of the library's two ways is faster here: the fused attention, or products and a
    softmax.

    Args:
        model: Its own weights are used, the output head's too.
        slots: M, of the memory.
        rows: Questions that are answered side by side.
        tokens: Decoded for each of them.
    """
    host, layers = Host.of(model.model), _layers(model)
    store = host.allocate(rows=1, length=slots)
    store.keys.normal_(), store.values.normal_()
    config = model.model.config
    size, kv_heads = store.keys.shape[-1], store.keys.shape[2]
    groups = config.num_attention_heads // kv_heads
    hidden = _numbers(host, rows * 2, config.hidden_size)
    inner = _numbers(host, rows * 2, config.intermediate_size)
    mixed = _numbers(host, rows * 2, config.num_attention_heads * size)
    query = _numbers(host, 1, kv_heads, rows * 2 * groups, size)
    head = model.model.lm_head.weight
    attend = min((_fused, _in_products), key=lambda way: _seconds(lambda: way(query, store, 0)))

    @torch.inference_mode()
    def run() -> None:
        for token in range(1, tokens + 1):
            beacons = rows if token % model.ratio == 0 else 0
            asked = query[:, :, : (rows + beacons) * groups]
            for number, layer in enumerate(layers):
                _project(layer, hidden, mixed, rows, beacons)
                attend(asked, store, number)
                _transform(layer, hidden, inner, rows + beacons)
            F.linear(hidden[:rows], head)

    return run


@dataclass(frozen=True, slots=True)
class _Layer:
    """The matrices of one layer."""

    q_proj: nn.Linear | BeaconLinear
    k_proj: nn.Linear | BeaconLinear
    v_proj: nn.Linear | BeaconLinear
    o_proj: nn.Linear | BeaconLinear
    gate: Tensor
    up: Tensor
    down: Tensor


def _layers(model: BeaconModel) -> list[_Layer]:
    found = []
    for layer in model.model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        found.append(_Layer(*projections, mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight))
    return found


def _project(layer: _Layer, hidden: Tensor, mixed: Tensor, raw: int, beacons: int) -> None:
    """Raw entries through the base projections and beacons through their twins, where they have one."""
    for projection, numbers in (
        (layer.q_proj, hidden),
        (layer.k_proj, hidden),
        (layer.v_proj, hidden),
        (layer.o_proj, mixed),
    ):
        if not isinstance(projection, BeaconLinear):
            F.linear(numbers[: raw + beacons], projection.weight, projection.bias)
            continue
        F.linear(numbers[:raw], projection.base.weight, projection.base.bias)
        if beacons:
            F.linear(numbers[raw : raw + beacons], projection.twin.weight, projection.twin.bias)


def _transform(layer: _Layer, hidden: Tensor, inner: Tensor, entries: int) -> None:
    F.linear(hidden[:entries], layer.gate)
    F.linear(hidden[:entries], layer.up)
    F.linear(inner[:entries], layer.down)


def _fused(query: Tensor, store: KeyValues, layer: int) -> Tensor:
    return F.scaled_dot_product_attention(query, store.keys[layer], store.values[layer])


def _in_products(query: Tensor, store: KeyValues, layer: int) -> Tensor:
    return (query @ store.keys[layer].transpose(2, 3)).softmax(dim=-1) @ store.values[layer]


def _batches(model: BeaconModel, tokens: int) -> Iterator[tuple[int, Stream, int]]:
    """Rows that are read side by side, where their streams begin, and the tokens of each."""
    stream = Stream(model.window, model.ratio)
    if model.capacity is None or tokens <= model.capacity:
        yield 1, stream, tokens
        return
    opening = 0
    if model.tokens is not None:
        opening = len(model.tokens.encode_opening(model.usage.prompts or load_prompts(None)))
    cut = Cut(model.capacity - opening, model.usage.overlap)
    together = max(1, READ_TOKENS // model.window)
    growth = cut.growth(0, tokens - opening)
    for first in range(0, len(growth.whole), BLOCK_ROWS):
        block = min(BLOCK_ROWS, len(growth.whole) - first)
        for start in range(0, block, together):
            yield min(together, block - start), stream, model.capacity
    if growth.last is not None:
        yield 1, stream, opening + growth.last[1] - growth.last[0]


def _keys(step: Step) -> int:
    """Slots and entries of the window that a step attends to."""
    return step.before.slots + step.before.entries + step.raw + step.beacons


def _numbers(host: Host, *shape: int) -> Tensor:
    return torch.randn(shape, device=host.device, dtype=host.dtype)


# --- timing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a run and of its floor, taken in turn.

    Attributes:
        seconds: of the run, each time.
        floor: of the floor, each time.
    """

    seconds: tuple[float, ...]
    floor: tuple[float, ...]

    @property
    def best(self) -> float:
        """The run's shortest time."""
        return min(self.seconds)

    @property
    def best_floor(self) -> float:
        """The floor's shortest time."""
        return min(self.floor)

    @property
    def ratio(self) -> float:
        """The shortest time of the run over that of the floor."""
        return self.best / self.best_floor

    @property
    def median_ratio(self) -> float:
        """The median over the turns of the run's time over the floor's."""
        return statistics.median(a / b for a, b in zip(self.seconds, self.floor, strict=True))


def time_in_turn(run: Run, floor: Run, *, repeats: int) -> Timing:
    """Time a run and its floor in turn, after one run of each that does not count.

    In turn, because a machine that others use is slower now and faster then, for both alike.
    """
    run(), floor()
    taken: Mapping[str, list[float]] = {"run": [], "floor": []}
    for turn in range(repeats):
        order: Sequence[tuple[str, Run]] = (("run", run), ("floor", floor))
        for name, some in order if turn % 2 == 0 else reversed(order):
            taken[name].append(_seconds(some))
    return Timing(tuple(taken["run"]), tuple(taken["floor"]))


def _seconds(run: Run) -> float:
    _wait()
    started = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
