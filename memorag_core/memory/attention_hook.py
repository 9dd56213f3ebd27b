"""The attention of a transformers model, taken over by transformers' own registry; no model file is changed.

In: the attention that a model has, and a function that is asked first. Out: the name of an attention that
does both. Knows no memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar, cast

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Attended: TypeAlias = tuple[Tensor, Tensor | None]
"""What an attention function of transformers returns: [B, N, heads, D], and its weights or None."""

Attend: TypeAlias = Callable[[nn.Module, Tensor, Tensor, Tensor, dict[str, Any]], Attended | None]
"""Is given a layer's attention module, query [B, heads, N, D], key and value [B, H, N, D], and what else an
attention function is told; None leaves the call to the model's own attention."""

T = TypeVar("T")


def register_attention(
    prefix: str, original: str, attend: Attend, *, make_mask: Callable[..., Any] | None = None
) -> str:
    """Register, once, an attention that asks ``attend`` first and otherwise does what ``original`` does.

    Args:
        prefix: of the new attention's name.
        original: the name of the model's own attention.
        attend: see ``Attend``.
        make_mask: makes the masks; None makes those of the original.

    Returns:
        The new attention's name, for ``config._attn_implementation``.
    """
    name = prefix + original

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **rest: Any,
    ) -> Attended:
        found = attend(module, query, key, value, {**rest, "attention_mask": attention_mask})
        if found is not None:
            return found
        function = ALL_ATTENTION_FUNCTIONS.get_interface(original, eager_attention(module))
        return cast(Attended, function(module, query, key, value, attention_mask, **rest))

    if name not in ALL_ATTENTION_FUNCTIONS:
        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, make_mask or ALL_MASK_ATTENTION_FUNCTIONS[original])
    return name


def eager_attention(module: nn.Module) -> Any:
    """A layer's eager attention; it is not in the registry, for each model's file has its own."""
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)


@contextmanager
def set_for_call(variable: ContextVar[T | None], value: T) -> Iterator[None]:
    """Set a context variable for one call; threads and tasks do not see each other's."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
