"""Texts of others inside of a prompt, so that nothing in them can be taken for a part of the prompt.

In: a text and the template that it goes into. Out: the text, with a quotation mark of mail (">") before the
lines that begin as one of the template's own; or the template, with longer fences than any in the text. Knows
no model. A text without such lines stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import regex

_LONGEST = 40  # characters of a heading, "Question that stands alone:" among them
_BREAKS = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_SPACE = rf"[^\S{_BREAKS}]"
_BEFORE = rf"(?:{_SPACE}|[\p{{Cf}}\p{{Mn}}*_#`~\-])*+"
_FENCE = regex.compile(rf"(?<![^{_BREAKS}]){_SPACE}*(=+)[^{_BREAKS}=]+(=+){_SPACE}*(?![^{_BREAKS}])")
_OWN_FENCE = regex.compile(r"^===(?=[^=\n]+===$)|(?<=^===[^=\n]+)===$", regex.MULTILINE)


def headings(template: str) -> tuple[str, ...]:
    """What lines of a template begin with, up to a colon: "Question", "Passages" and the like."""
    found = (
        regex.split("[:：]", line)[0].strip() for line in template.split("\n") if regex.search("[:：]", line)
    )
    return tuple(dict.fromkeys(one for one in found if one and len(one) <= _LONGEST and "{" not in one))


def quoted(text: str, names: Iterable[str]) -> str:
    """A text with ">" before each line but the first that begins with one of the names and a colon."""
    pattern = _beginning(tuple(dict.fromkeys(names)))
    return text if pattern is None else pattern.sub("> ", text)


def fenced(before: str, text: str, after: str) -> tuple[str, str]:
    """What stands before and behind a text, with fences ("=== ... ===") that are longer than those in it."""
    longest = max((len(run) for found in _FENCE.finditer(text) for run in found.groups()), default=0)
    if longest < 3:
        return before, after
    fence = "=" * (longest + 1)
    return _OWN_FENCE.sub(fence, before), _OWN_FENCE.sub(fence, after)


@lru_cache(maxsize=64)
def _beginning(names: tuple[str, ...]) -> regex.Pattern[str] | None:
    if not names:
        return None
    # Any white space stands for any, and format characters do not hide a name.
    spelled = ("(?:\\s|\\p{Cf})+".join(map(regex.escape, name.split())) for name in names)
    return regex.compile(
        rf"(?<=[{_BREAKS}])(?={_BEFORE}(?:{'|'.join(spelled)})[\s\p{{Cf}}*_]*+[:：﹕])", regex.IGNORECASE
    )
