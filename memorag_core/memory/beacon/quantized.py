"""Base projections in 8 or 4 bits, through bitsandbytes (the extra ``quantized``).

In: the weight of a projection, once. Out: a module that computes with its codes. Knows no beacons and no
files.

Only weights are coded; activations stay as they are, so a token's numbers do not depend on what stands beside
it, and feeding a text in pieces gives the memory of feeding it at once. The modules of bitsandbytes itself
change when they are first used, and its 8-bit product quantizes activations; so its functions are used here,
behind modules that never change, which threads can share.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memorag_core.errors import InputError, MissingExtraError

Quantization: TypeAlias = Literal["int8", "int4"]

_BLOCK = 64  # numbers that share a scale in 4 bits, as QLoRA (arXiv 2305.14314) has it
_SAMPLED = 4096  # numbers of the weight by which a module is recognised


def check_quantization(quantize: Quantization | None) -> Quantization | None:
    """The quantization that was asked for, when it can be had.

    Raises:
        InputError: it is none of those supported.
        MissingExtraError: bitsandbytes is not installed.
    """
    if quantize is None:
        return None
    if quantize not in ("int8", "int4"):
        raise InputError(f"quantize is {quantize!r}; expected None, 'int8' or 'int4'.")
    _bitsandbytes()
    return quantize


def quantized_linear(weight: Tensor, quantization: Quantization) -> nn.Module:
    """A projection of this weight, [out, in], in codes; its bias is set afterwards.

    "int8" has a scale for each row, "int4" is the NormalFloat of QLoRA with coded scales.
    """
    return Int8Linear(weight) if quantization == "int8" else Int4Linear(weight)


def quantization_of(model: nn.Module) -> Quantization | None:
    """How the projections of a model are coded; None where they are not."""
    for module in model.modules():
        if isinstance(module, CodedLinear):
            return module.quantization
    return None


def held_bytes(model: nn.Module) -> int:
    """Bytes that the weights of a model take, those in codes included."""
    coded = [module for module in model.modules() if isinstance(module, CodedLinear)]
    held: list[Tensor] = [*model.parameters(), *(code for module in coded for code in module.buffers())]
    return sum({id(tensor): tensor.nbytes for tensor in held}.values())


class CodedLinear(nn.Module):
    """A projection whose weight is held in codes.

    Codes of one weight may differ in the last bit between devices, so what is in the state dict, and in the
    identity of the model, is a sample of the weight itself.
    """

    quantization: Quantization

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        flat = weight.detach().reshape(-1)
        self.register_buffer("sample", flat[:: max(1, flat.numel() // _SAMPLED)].clone().float().cpu())
        self.bias: nn.Parameter | None
        self.register_parameter("bias", None)


class Int8Linear(CodedLinear):
    """Eight bits: a whole number for each number of the weight, and a scale for each row."""

    quantization: Quantization = "int8"
    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        codes, largest, _ = _bitsandbytes().functional.int8_vectorwise_quant(weight.to(torch.float16))
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", (largest / 127).to(weight.dtype)[:, None], persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(hidden, self.codes.to(hidden.dtype).mul_(self.scales), self.bias)


class Int4Linear(CodedLinear):
    """Four bits: two codes in a byte, and a coded scale for each block of the weight."""

    quantization: Quantization = "int4"
    codes: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        library = _bitsandbytes()
        codes, self._scales = library.functional.quantize_4bit(
            weight.contiguous(), blocksize=_BLOCK, quant_type="nf4", compress_statistics=True
        )
        self.register_buffer("codes", codes, persistent=False)
        self._product = library.matmul_4bit

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return cast(Tensor, self._product(hidden, self.codes.t(), quant_state=self._scales, bias=self.bias))


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingExtraError("bitsandbytes", "quantized", "Weights in 8 or 4 bits", error) from error
    return bitsandbytes
