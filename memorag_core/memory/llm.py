"""Any LLM as one small interface: a chat model of LangChain, an LLM of LlamaIndex, or a function.

In: an LLM of the user's, requests as turns of a conversation. Out: what it said, and the tokens it took.
Knows no memory, no clues and no framework: an LLM is taken by its shape, and nothing is imported for it.

Retries, rate limits and timeouts are the client's own. When it gives up, the whole call ends with one error
that carries the client's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from inspect import iscoroutinefunction
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Literal, TypeAlias

from memorag_core.errors import InputError, MemoRAGError
from memorag_core.system.locking import LOOK, Lock, Slots

logger = logging.getLogger(__name__)

CONCURRENCY = 4
"""Requests in flight at once: few enough for the rate limits of small accounts."""

BYTES_A_TOKEN = 4
"""What a token is estimated to be: about right for English; 0.75 tokens for a character of Chinese."""

_CUT_OFF = ("length", "max_tokens", "model_length", "incomplete")
"""How providers say that the token limit ended a reply, in small letters."""

_LONGEST_REASON = 500  # characters of a client's message that ours repeats; the whole one is the cause

CountTokens: TypeAlias = Callable[[str], int]
"""How many tokens a text has, for the LLM in use."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent at once: the turns, and the name by which an error calls them."""

    turns: tuple[Turn, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Said:
    """A reply and what it took.

    Attributes:
        text: what the LLM wrote, without white space around it.
        input_tokens: tokens of the prompt, those from the provider's cache included.
        output_tokens: tokens of the reply, hidden reasoning included where the provider bills it so.
        cached_tokens: those of the prompt that came from the provider's cache.
        finished: False when a token limit cut the reply off.
        estimated: whether the client left a count out, so that it is an estimate.
    """

    text: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    finished: bool = True
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used so far, in tokens, over all requests that were answered.

    What a provider bills for attempts that failed or timed out is not in it: no client reports that.

    Attributes:
        requests: answered requests.
        input_tokens: tokens of prompts, cached ones included.
        cached_tokens: those of them that came from the provider's cache.
        output_tokens: tokens of replies.
        estimated: whether some counts are estimates, because the client did not report them.
    """

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False

    def cost(self, *, input_price: float, output_price: float, cached_price: float | None = None) -> float:
        """What it costs at prices per million tokens, in their currency.

        Args:
            input_price: of tokens of the prompt.
            output_price: of tokens of the reply.
            cached_price: of tokens of the prompt that were in the cache; None where they cost the same.
        """
        cached = input_price if cached_price is None else cached_price
        fresh = self.input_tokens - self.cached_tokens
        return (fresh * input_price + self.cached_tokens * cached + self.output_tokens * output_price) / 1e6

    def after(self, said: Said) -> Usage:
        """The usage with one more reply in it."""
        return Usage(
            self.requests + 1,
            self.input_tokens + said.input_tokens,
            self.cached_tokens + said.cached_tokens,
            self.output_tokens + said.output_tokens,
            self.estimated or said.estimated,
        )


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a client gave back; None for what it did not report."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finished: bool = True


@dataclass(frozen=True, slots=True)
class _Shape:
    """How an LLM is spoken to: whether it takes turns, and whether it can be told the longest reply."""

    send: Callable[[Sequence[Turn], int | None], _Reply]
    turns: bool
    limits: bool


_Place: TypeAlias = tuple[int, int]  # the number of a group, and of a request in it


class LLM:
    """An LLM of the user's, taken by its shape; any number of threads may ask it.

    - LangChain (``invoke`` and ``batch``): gets the turns as messages.
    - LlamaIndex (``complete`` and ``metadata``): gets one text.
    - A function from a prompt to a text: gets one text.

    One text is the turns of system and user in order, blank lines between them; what the assistant is taken
    to have said is left out, so what stands first stays first.

    Args:
        llm: the LLM, ready to be used: its keys, address, retries and timeout are set on it.
        name: what it is called in messages and saved memories; None for what the client says.
        concurrency: the most requests in flight at once, over all threads that ask.
        count_tokens: counts tokens where the client does not report them; None for ``estimate_tokens``.

    Raises:
        InputError: none of these shapes, or a concurrency below 1.
    """

    def __init__(
        self,
        llm: Any,
        *,
        name: str | None = None,
        concurrency: int = CONCURRENCY,
        count_tokens: CountTokens | None = None,
    ) -> None:
        if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
            raise InputError(
                f"The concurrency is {concurrency!r}; expected how many requests may be in flight, 1 or more."
            )
        if name is not None and not (isinstance(name, str) and name.strip()):
            raise InputError(f"The name of the LLM is {name!r}; expected text, or None for the client's own.")
        self._shape = _shape_of(llm)
        self.name = name if name is not None else _name_of(llm)
        self.concurrency = concurrency
        self._count = count_tokens if count_tokens is not None else estimate_tokens
        self._slots = Slots(concurrency)
        self._lock = Lock()
        self._usage = Usage()
        self._warned = False

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._usage

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has, counted or estimated.

        Raises:
            InputError: the user's function gives no whole number.
        """
        count = self._count(text)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise InputError(f"count_tokens gave {count!r}; expected the number of tokens as an int.")
        return count

    def ask(
        self,
        groups: Sequence[Sequence[Request]],
        *,
        after_failure: str,
        first_alone: bool = False,
        max_new_tokens: int | None = None,
        replied: Callable[[int, int, Said], None] | None = None,
        goes_on: Callable[[], bool] | None = None,
    ) -> tuple[tuple[Said, ...], ...]:
        """Send requests, several at once, and wait for all replies.

        Requests of a group are sent next to each other, in the order of the groups.

        Args:
            groups: the requests; those that begin alike make a group.
            after_failure: says in an error what a failure leaves behind and what to do.
            first_alone: send the others of a group only when its first one is answered, so that they find
                their common beginning in the provider's cache.
            max_new_tokens: the longest reply. It reaches clients of LangChain that have a ``max_tokens``;
                others go by what is set on them.
            replied: told the number of the group, of the request in it, and the reply, as each comes, on the
                thread that called.
            goes_on: asked several times a second. Once it says False, nothing more is sent, and replies that
                have not come are not waited for: they are empty and not finished.

        Returns:
            The replies, in the shape and order of the requests.

        Raises:
            MemoRAGError: the client gave up on a request, and its error is the cause. Requests in flight were
                waited for, others were not sent; no reply is returned.
        """
        if max_new_tokens is not None and not self._shape.limits and not self._warned:
            self._warned = True
            logger.warning("%s cannot be told max_new_tokens; set the longest reply on the LLM", self.name)
        order = _Order(groups, first_alone)
        said: dict[_Place, Said] = {}
        running: dict[_Place, Thread] = {}
        ended: SimpleQueue[tuple[_Place, Said | BaseException | None]] = SimpleQueue()
        failed: tuple[_Place, BaseException] | None = None
        stop = Event()

        def send(place: _Place) -> None:
            try:
                request = groups[place[0]][place[1]]
                ended.put((place, self._say(request, max_new_tokens, stop)))
            except BaseException as error:
                ended.put((place, error))

        try:
            while goes_on is None or goes_on():
                while failed is None and len(running) < self.concurrency and (place := order.next()):
                    # Not a pool: the interpreter waits for its threads at the end, also for those given up.
                    # A context of its own, for clients that keep traces and callbacks in it.
                    run = copy_context().run
                    running[place] = Thread(target=run, args=(send, place), name="memorag-llm", daemon=True)
                    running[place].start()
                if not running:
                    break
                place, reply = _next_of(ended, running)
                if place is None:
                    continue
                del running[place]
                if isinstance(reply, Said):
                    said[place] = reply
                    order.answered(place)
                    if replied is not None:
                        replied(*place, reply)
                elif reply is not None and failed is None:
                    failed = (place, reply)
                    stop.set()
        finally:
            stop.set()
        if failed is not None:
            (number, item), cause = failed
            if isinstance(cause, MemoRAGError) or not isinstance(cause, Exception):
                raise cause
            raise MemoRAGError(
                f"The LLM {self.name!r} gave no reply to {groups[number][item].name}: {_reason(cause)}. "
                f"Requests answered: {len(said)} of {sum(map(len, groups))}. {after_failure} How often and "
                "how long it is tried is set on the client, such as ChatOpenAI(max_retries=6, timeout=120)."
            ) from cause
        missing = Said("", 0, 0, finished=False)
        return tuple(
            tuple(said.get((number, item), missing) for item in range(len(group)))
            for number, group in enumerate(groups)
        )

    def _say(self, request: Request, max_new_tokens: int | None, stop: Event) -> Said | None:
        """One request; None where another one failed before it was sent."""
        with self._slots:
            if stop.is_set():
                return None
            reply = self._shape.send(request.turns, max_new_tokens if self._shape.limits else None)
        said = self._counted(request, reply)
        with self._lock:
            self._usage = self._usage.after(said)
        return said

    def _counted(self, request: Request, reply: _Reply) -> Said:
        read, written = reply.input_tokens, reply.output_tokens
        estimated = read is None or written is None
        if read is None:
            texts = [turn.text for turn in request.turns] if self._shape.turns else [as_text(request.turns)]
            read = sum(map(self.count_tokens, texts))
        if written is None:
            written = self.count_tokens(reply.text)
        cached = reply.cached_tokens or 0
        return Said(reply.text.strip(), read, written, cached, finished=reply.finished, estimated=estimated)


def estimate_tokens(text: str) -> int:
    """An estimate for any LLM: a token for every 4 bytes of UTF-8, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN)


def as_text(turns: Sequence[Turn]) -> str:
    """Turns as one prompt, for an LLM that takes no turns; see ``LLM``."""
    return "\n\n".join(turn.text for turn in turns if turn.role != "assistant")


def _next_of(
    ended: SimpleQueue[tuple[_Place, Said | BaseException | None]], running: Mapping[_Place, Thread]
) -> tuple[_Place | None, Said | BaseException | None]:
    """What has ended next, and how; no place where nothing has for a while."""
    dead = [place for place, thread in running.items() if not thread.is_alive()]  # they said all they say
    with suppress(Empty):
        return ended.get(timeout=0 if dead else LOOK)
    if dead:
        return dead[0], MemoRAGError("The thread of a request was broken off. Ask again.")
    return None, None


class _Order:
    """Which request is sent next."""

    def __init__(self, groups: Sequence[Sequence[Request]], first_alone: bool) -> None:
        self._sizes = [len(group) for group in groups]
        self._first_alone = first_alone
        self._unopened = deque(number for number, size in enumerate(self._sizes) if size)
        self._ready: deque[_Place] = deque()

    def next(self) -> _Place | None:
        """The next one, or None while there is none that may be sent."""
        if not self._ready and self._unopened:
            number = self._unopened.popleft()
            size = 1 if self._first_alone else self._sizes[number]
            self._ready.extend((number, item) for item in range(size))
        return self._ready.popleft() if self._ready else None

    def answered(self, place: _Place) -> None:
        """Those that waited for this one may be sent."""
        number, item = place
        if self._first_alone and item == 0:
            self._ready.extend((number, other) for other in range(1, self._sizes[number]))


# --- shapes -------------------------------------------------------------------------------------------------


def _shape_of(llm: Any) -> _Shape:
    if not isinstance(llm, type | str):
        if _has(llm, "invoke") and _has(llm, "batch"):
            limits = hasattr(llm, "max_tokens")
            return _Shape(lambda turns, limit: _from_langchain(llm, turns, limit), turns=True, limits=limits)
        if _has(llm, "complete") and hasattr(llm, "metadata"):
            return _Shape(lambda turns, _: _from_llama_index(llm, turns), turns=False, limits=False)
        if callable(llm) and not iscoroutinefunction(llm):
            return _Shape(lambda turns, _: _from_function(llm, turns), turns=False, limits=False)
    found = f"the class {llm.__name__}" if isinstance(llm, type) else f"{llm!r:.60}"
    raise InputError(
        f"The LLM is {found}; expected a chat model of LangChain, an LLM of LlamaIndex, or a function that "
        "takes a prompt and returns a text. Give one that is ready to be used: ChatOpenAI(model='...')."
    )


def _from_langchain(llm: Any, turns: Sequence[Turn], limit: int | None) -> _Reply:
    messages = [(turn.role, turn.text) for turn in turns]
    reply = llm.invoke(messages) if limit is None else llm.invoke(messages, max_tokens=limit)
    if isinstance(reply, str):  # a completion model, or a chain that ends in a parser
        return _Reply(reply)
    text = getattr(reply, "text", None)
    if not isinstance(text, str):  # a method before langchain-core 1.0
        text = text() if callable(text) else getattr(reply, "content", None)
    metadata = getattr(reply, "response_metadata", None)
    usage = getattr(reply, "usage_metadata", None)
    return _Reply(
        _checked_text(text),
        _whole(usage, "input_tokens"),
        _whole(usage, "output_tokens"),
        _whole(_entry(usage, "input_token_details"), "cache_read"),
        _finished(metadata, "finish_reason", "stop_reason", "done_reason", "status"),
    )


def _from_llama_index(llm: Any, turns: Sequence[Turn]) -> _Reply:
    reply = llm.complete(as_text(turns))
    raw = getattr(reply, "raw", None)
    usage = _entry(raw, "usage")
    read = _first(_whole(usage, "prompt_tokens"), _whole(usage, "input_tokens"))
    aside = _whole(usage, "cache_read_input_tokens")  # some providers count cached tokens beside the others
    if read is not None and aside is not None:
        read += aside + (_whole(usage, "cache_creation_input_tokens") or 0)
    details = _first(_entry(usage, "prompt_tokens_details"), _entry(usage, "input_tokens_details"))
    choices = _entry(raw, "choices")
    choice = choices[0] if isinstance(choices, Sequence) and choices else raw
    return _Reply(
        _checked_text(getattr(reply, "text", None)),
        read,
        _first(_whole(usage, "completion_tokens"), _whole(usage, "output_tokens")),
        _first(aside, _whole(details, "cached_tokens")),
        _finished(choice, "finish_reason", "stop_reason", "done_reason", "status"),
    )


def _from_function(llm: Any, turns: Sequence[Turn]) -> _Reply:
    return _Reply(_checked_text(llm(as_text(turns))))


def _name_of(llm: Any) -> str:
    """The model's name as the client says it; else what the client or the function is called."""
    for holder in (llm, getattr(llm, "metadata", None), getattr(llm, "bound", None)):
        for attribute in ("model_name", "model"):
            name = _entry(holder, attribute)
            if isinstance(name, str) and name.strip() and name != "unknown":
                return name
    return str(getattr(llm, "__qualname__", type(llm).__qualname__))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON].rstrip(". ")


def _has(llm: Any, method: str) -> bool:
    return callable(getattr(llm, method, None))


def _checked_text(text: Any) -> str:
    if not isinstance(text, str):
        raise MemoRAGError(
            f"The LLM returned {type(text).__name__}; expected a text. Give a function that returns the text "
            "of the reply, such as lambda prompt: client.ask(prompt).text."
        )
    return str(text)  # of the plain type: clients return kinds of str


def _entry(holder: Any, name: str) -> Any:
    """A value by name, of a mapping or an object; None where there is none."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _whole(holder: Any, name: str) -> int | None:
    value = _entry(holder, name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _finished(holder: Any, *names: str) -> bool:
    return not any(str(_entry(holder, name)).casefold() in _CUT_OFF for name in names)
