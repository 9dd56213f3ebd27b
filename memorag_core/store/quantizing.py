"""Keys and values in 8 or 4 bits: symmetric, one scale for each vector of the head size.

In: tensors [..., D] of floating point. Out: whole numbers and the largest magnitude of each vector, and
tensors again. Knows no files.

A vector x is kept as m = max |x| in float16 and q = round(x * N / m), N being 127 or 7; it comes back as
m * q / N in its own type. The largest number of a vector comes back as m itself, so that m is found again,
and rounding to the type moves the others by less than half a step: what came back, quantized again, gives the
same bytes. Numbers beyond float16 are refused, vectors below its normal range become 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memorag_core.errors import StoreError
from memorag_core.store.layout import REMEDY, Encoding, Quantized

if TYPE_CHECKING:
    from torch import Tensor

LEVELS: dict[Encoding, int] = {"int8": 127, "int4": 7}
"""The largest whole number, N."""

DTYPES = ("float64", "float32", "float16", "bfloat16")
"""What can be quantized."""

_LARGEST, _SMALLEST = 65504.0, 2.0**-14  # of float16, and of its numbers of full precision


def quantize(tensor: Tensor, encoding: Encoding, name: str) -> tuple[Tensor, Tensor]:
    """A tensor as whole numbers and the magnitudes of its vectors.

    Args:
        tensor: [..., D] on the CPU.
        encoding: "int8" or "int4".
        name: what errors call it.

    Returns:
        For int8 [..., D] int8, for int4 [..., ceil(D / 2)] uint8 with the first of two numbers in the low
        half, both 8 more than they are; and [...] float16.

    Raises:
        StoreError: it holds numbers that float16 cannot.
    """
    import torch

    levels = LEVELS[encoding]
    whole = torch.empty(tensor.shape, dtype=torch.int8)
    largest = torch.empty(tensor.shape[:-1], dtype=torch.float16)
    for place in range(len(tensor)):  # a layer at a time: the numbers between are four times as large
        numbers = tensor[place].float()
        peak = numbers.abs().amax(-1) if numbers.shape[-1] else numbers.new_zeros(numbers.shape[:-1])
        if not bool((peak <= _LARGEST).all()):  # also where it is not a number
            raise StoreError(
                f"{name} holds numbers up to {peak.max().item()}; expected up to {_LARGEST:.0f} for "
                f'kv="{encoding}". Save it with kv="float".'
            )
        peak = torch.where(peak < _SMALLEST, 0.0, peak).half()
        divisor = torch.where(peak == 0, float("inf"), peak.float())[..., None]
        whole[place] = (numbers * levels / divisor).round().clamp(-levels, levels).to(torch.int8)
        largest[place] = peak
    if encoding == "int8":
        return whole, largest
    halves = (whole + 8).to(torch.uint8)
    if halves.shape[-1] % 2:
        halves = torch.nn.functional.pad(halves, (0, 1), value=8)
    return halves[..., 0::2] | (halves[..., 1::2] << 4), largest


def dequantize(whole: Tensor, largest: Tensor, quantized: Quantized, where: str) -> Tensor:
    """The inverse of ``quantize``, but for what rounding took.

    Args:
        whole: as ``quantize`` gave it.
        largest: likewise.
        quantized: how the tensor was.
        where: what errors name.

    Raises:
        StoreError: they are no quantized tensor.
    """
    import torch

    size, encoding = quantized.size, quantized.encoding
    kind, stored = (torch.int8, size) if encoding == "int8" else (torch.uint8, (size + 1) // 2)
    fits = (
        quantized.dtype in DTYPES
        and whole.dtype == kind
        and largest.dtype == torch.float16
        and whole.ndim > 1
        and whole.shape == (*largest.shape, stored)
    )
    if not fits:
        found = f"{whole.dtype} {tuple(whole.shape)} with {largest.dtype} {tuple(largest.shape)}"
        raise StoreError(
            f"{where} is {found} in the store; "
            f"expected {encoding} of vectors of {size} numbers of {quantized.dtype}. {REMEDY}"
        )
    numbers = torch.empty((*largest.shape, size), dtype=getattr(torch, quantized.dtype))
    for place in range(len(whole)):
        layer = whole[place]
        if encoding == "int4":
            layer = torch.stack((layer & 15, layer >> 4), -1).flatten(-2)[..., :size].to(torch.int8) - 8
        numbers[place] = layer.float() * largest[place].float()[..., None] / LEVELS[encoding]
    return numbers
