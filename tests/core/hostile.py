"""JSON that somebody changed: valid values, and none that was written."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    10**9,
    10**30,
    -(2**63),
    0.5,
    -0.0,
    1e300,
    "",
    "x",
    "7",
    "\ud800",
    [],
    [None],
    [0, -1],
    [[0, 1, 2]] * 3,
    {},
    {"x": 1},
)
"""What is put anywhere; NaN is no JSON, and refused as such where bytes are read."""

Path = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> list[Path]:
    """The paths to all values inside of one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, held in items for place in ((*path, key), *places(held, (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, original: Any) -> Any:
    """The value with one or two places taken out, or filled with something else."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(value) or [("x",)]))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.integers(0, 4)) == 0 and path[-1] in (holder if isinstance(holder, dict) else ()):
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return value
