"""Packing: the same memory comes back, with the same settings only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memorag_core.errors import StoreError
from tests.core.memory.gist.conftest import gist_model, hosted, real_text

TEXT = real_text(3000)
HOSTED = gist_model(inner=hosted())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"block_tokens": 64}, "gists of 32 tokens for blocks of 64; the model is set to 32 and 128"),
        ({"gist_tokens": 16}, "gists of 16"),
        ({"documents": 7}, "table of documents is damaged"),
        ({"documents": [["0"]]}, "table of documents is damaged"),
        ({"documents": []}, "for the 0 blocks of its documents"),
        ({"documents": [["0", 3]]}, "for the 3 blocks"),
        ({"documents": [["0", 2], ["1", 5]]}, "do not cover their documents"),
        ({"memory": None}, "lacks that of the inner memory"),
        ({"memory": {}}, "format None"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    arrays, header = HOSTED.pack(HOSTED.memorize(TEXT))
    assert header["documents"] == [["0", 7]]
    with pytest.raises(StoreError, match=message):
        HOSTED.unpack(arrays, {**header, **change})
    with pytest.raises(StoreError):
        HOSTED.unpack(arrays, {name: value for name, value in header.items() if name not in change})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "gists.text",
            lambda _: None,
            "'gists.text' of the memory is NoneType; expected uint8 in one column",
        ),
        ("gists.text", lambda table: table[:-1], "do not cover their text"),
        ("gists.text", lambda table: np.full_like(table, 255), "no UTF-8"),
        ("gists.ends", lambda table: table.astype(np.int32), "'gists.ends' of the memory is int32"),
        ("gists.ends", lambda table: table[::-1].copy(), "do not cover their text"),
        ("gists.ends", lambda table: table[:-1], "6 gists, 7 spans and 7 counts"),
        ("gists.spans", lambda table: table[:, 0].copy(), r"int64 \(7,\); expected int64 in 2 columns"),
        ("gists.spans", lambda table: table + 1, "one behind the other from 0"),
        ("gists.spans", lambda table: table * 0, "do not cover their documents"),
        ("gists.tokens", lambda table: -table, "do not cover"),
        ("gists.tokens", lambda table: table[:3], "3 counts"),
        ("memory.ends", lambda _: None, "'ends' of the memory is NoneType"),
    ],
)
def test_tables_that_do_not_fit_are_refused(name: str, change: Any, message: str) -> None:
    arrays, header = HOSTED.pack(HOSTED.memorize(TEXT))
    with pytest.raises(StoreError, match=message):
        HOSTED.unpack({**arrays, name: change(arrays[name])}, header)
