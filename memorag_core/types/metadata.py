"""What users keep with a text, as values that cannot be changed: checked on the way in, copied out.

In: metadata of any kind. Out: the same as mappings and lists that refuse to be changed, so that all who ask
can share them; or a copy of one's own. Knows no documents. What is memorized has to be what a store can keep,
so ``json_frozen`` refuses what JSON cannot hold; ``frozen`` takes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from enum import Enum
from math import isfinite
from typing import Any, NoReturn, TypeAlias

from memorag_core.errors import InputError

DEEPEST = 100
"""Levels of lists and mappings in each other. Real metadata has a few; what holds itself has no end."""

MOST = 1_000_000
"""Values in all, also where the same list stands in many places: JSON writes it out in each."""

LARGEST = 10**4300
"""Whole numbers of more digits are read by no JSON reader of Python."""

_LONGEST = 80  # characters of a place that an error shows
_PLAIN = (str, int, float, type(None))  # most of what there is, and quick to ask for; a Mapping is not
_MAPPING = (dict, Mapping)
_NESTED = (*_MAPPING, list, tuple)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError(
        "This is shared by all who ask, and cannot be changed. Change a copy, copy.deepcopy(metadata), and "
        "hand it over: rag.update(Document(text, id=..., metadata=copy))."
    )


class FrozenDict(dict[Any, Any]):
    """A mapping that cannot be changed, of values that cannot either; copies of it are plain ones."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def copy(self) -> dict[Any, Any]:
        """A copy that can be changed, whatever is in it too."""
        return thawed(self)

    def __copy__(self) -> dict[Any, Any]:
        return thawed(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {name: deepcopy(value, memo) for name, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed, of values that cannot either; copies of it are plain ones."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def copy(self) -> list[Any]:
        """A copy that can be changed, whatever is in it too."""
        copied: list[Any] = _Copying(dict, list).copied(self)
        return copied

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [deepcopy(value, memo) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def json_frozen(metadata: object, owner: str) -> FrozenDict:
    """Metadata as they are after a save, frozen: tuples are lists, and numbers and texts of plain types.

    Args:
        metadata: A mapping.
        owner: What has them, for the error: "document 'a'".

    Raises:
        InputError: JSON cannot hold a value, or a name is no text; with its place, its type and the remedy.
    """
    if not isinstance(metadata, Mapping):
        raise InputError(
            f"The metadata of {owner} are {_a(metadata)}; expected a mapping, such as {{'page': 3}}. Leave "
            "them out where there are none."
        )
    taken: FrozenDict = _Door(owner).taken(metadata)
    return taken


def frozen(value: Any) -> Any:
    """A value whose mappings and lists, at any depth, cannot be changed; whatever else is in it stays.

    Nothing of what was given is shared but what is neither a mapping nor a list, tuple or set.
    """
    return _Copying(FrozenDict, FrozenList).copied(value)


def thawed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of metadata, of documents, chunks or turns, that can be changed, whatever is in it too."""
    copied: dict[str, Any] = _Copying(dict, list).copied(metadata)
    return copied


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two frozen metadata are saved as the same: True is not 1, and 1 is not 1.0."""
    return one is other or (one == other and _saved(one) == _saved(other))


def _saved(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, sort_keys=True)


_Path: TypeAlias = tuple[Any, str | int] | None
"""A place: the one that it is in, and its name or number there; None at the top."""


class _Door:
    """Takes in what JSON can hold."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._left = MOST

    def taken(self, value: Any, path: _Path = None, levels: int = DEEPEST) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)  # of a subclass, such as an enumeration of texts, the text alone
        if isinstance(value, int) and -LARGEST < value < LARGEST:
            return int.__int__(value)
        if isinstance(value, float) and isfinite(value):
            return float.__float__(value)
        if not isinstance(value, _NESTED):
            raise InputError(
                f"The metadata of {self._owner} hold {_a(value)} at {_shown(path)}; expected what JSON can "
                "hold, for a memory can be saved: text, finite numbers, booleans, None, and lists or "
                f"mappings of them. {_remedy(value)}"
            )
        self._left -= len(value)
        if not levels or self._left < 0:
            raise InputError(
                f"The metadata of {self._owner} have more than {DEEPEST} levels or {MOST:,} values, or hold "
                f"themselves, at {_shown(path)}; expected a few. Keep what is needed of them."
            )
        if isinstance(value, _MAPPING):
            return FrozenDict(
                {
                    self._name(name, path): self.taken(member, (path, name), levels - 1)
                    for name, member in value.items()
                }
            )
        return FrozenList([self.taken(one, (path, at), levels - 1) for at, one in enumerate(value)])

    def _name(self, name: object, path: _Path) -> str:
        if isinstance(name, str):
            return str.__str__(name)
        raise InputError(
            f"The metadata of {self._owner} have {_a(name)} for a name at {_shown(path)}; expected text, for "
            "JSON has no other names. Give str(name)."
        )


class _Copying:
    """Copies mappings, lists, tuples and sets; what holds itself stays as it is where it does."""

    def __init__(self, mapping: type[dict[Any, Any]], sequence: type[list[Any]]) -> None:
        self._mapping, self._sequence = mapping, sequence
        self._known: dict[int, tuple[Any, Any]] = {}  # with what was copied, so that its id stays its own

    def copied(self, value: Any, levels: int = DEEPEST) -> Any:
        if isinstance(value, _PLAIN) or not levels:
            return value
        if isinstance(value, FrozenDict | FrozenList) and type(value) in (self._mapping, self._sequence):
            return value
        if not isinstance(value, _NESTED):
            return set(value) if type(value) is set else value
        if id(value) in self._known:
            return self._known[id(value)][1]
        self._known[id(value)] = value, value
        copied: Any
        if isinstance(value, _MAPPING):
            copied = self._mapping({name: self.copied(one, levels - 1) for name, one in value.items()})
        elif isinstance(value, list):
            copied = self._sequence([self.copied(one, levels - 1) for one in value])
        elif type(value) is tuple:
            copied = tuple([self.copied(one, levels - 1) for one in value])
        else:
            copied = value
        self._known[id(value)] = value, copied
        return copied


def _a(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, float) and not isfinite(value):
        return f"the number {float.__float__(value)!r}"
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        return "a number of more than 4,300 digits"
    if isinstance(value, bytes | bytearray):
        return "bytes"
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if package in ("builtins", "__main__") else f"{package}.{kind.__qualname__}"
    return f"an {name}" if name[0] in "aeiouAEIO" else f"a {name}"


def _shown(path: _Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    text = "".join(reversed(steps)).removeprefix(".")
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...") if text else "the top"


def _remedy(value: object) -> str:
    """How to make something of a value that JSON can hold; only its type is asked, for it may be anything."""
    kind = type(value)
    if isinstance(value, float | int):
        return "Give None, or a text."
    if hasattr(kind, "tolist"):
        return f"Give value.{'item' if getattr(value, 'ndim', 1) == 0 else 'tolist'}()."
    if hasattr(kind, "isoformat"):
        return "Give value.isoformat()."
    if isinstance(value, bytes | bytearray):
        return "Give value.decode('utf-8'), or, of what is no text, base64.b64encode(value).decode()."
    if isinstance(value, Enum):
        return "Give value.value."
    if hasattr(kind, "model_dump"):
        return "Give value.model_dump(mode='json')."
    if is_dataclass(kind):
        return "Give dataclasses.asdict(value)."
    if hasattr(kind, "__iter__") and not hasattr(kind, "__fspath__"):
        return "Give list(value)."
    return "Give str(value)."
