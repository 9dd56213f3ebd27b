"""A chain that answers from evidence: passages first, then the answer as it is written, with its citations.

In: a question, or a mapping with one. Out: a mapping of ``input``, ``context``, ``answer``, ``citations`` and
``unfounded``; streamed, it comes in pieces that add up to it. Knows any retriever, any LLM and no provider:
what they raise goes through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.language_models import LanguageModelLike
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.messages.content import Citation as CitationBlock
from langchain_core.messages.content import create_citation
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.runnables.utils import AddableDict, ConfigurableFieldSpec

from langchain_memorag.generators import MemoryChatModel
from memorag_core import (
    Citation,
    CitationParser,
    CitedText,
    InputError,
    MemoRAGError,
    Place,
    Unfounded,
    answer_prompt,
    number_passages,
    without_citations,
    without_marks,
)

Inputs: TypeAlias = dict[str, Any]
"""What the user gave, with the question as ``input``; in time with ``context``, the documents, beside it."""

_ENDED = ("finish_reason", "status")
"""How OpenAI's two protocols say, at the end of a stream, that it is the end."""


def answer_chain(
    retriever: Runnable[Any, list[Document]],
    llm: LanguageModelLike,
    prompt: BasePromptTemplate[Any] | None = None,
) -> Runnable[str | Mapping[str, Any], dict[str, Any]]:
    """A chain from a question to an answer that cites its evidence, in the shape of LangChain's own.

    Its input is a question, or a mapping with the question as ``input``; what else the mapping holds is in
    the output untouched. The output holds

    - ``input``: the question;
    - ``context``: the documents, best first; passage ``[1]`` of the answer is the first;
    - ``answer``: the text, citation marks included;
    - ``citations``: LangChain's citation blocks. ``start_index`` and ``end_index`` are characters of the
      answer, ``cited_text`` is the passage, ``title`` its document; ``extras`` holds the ``number``, the
      ``index`` in ``context`` and, where the document says it, its place: ``document_id``, ``start`` and
      ``end``;
    - ``unfounded``: the same of numbers that are cited and that no document has, without a passage.

    ``stream`` and ``astream`` give the input and the context first, then pieces of the answer, each citation
    as soon as its mark is complete; their sum is what ``invoke`` gives. ``batch`` hands all questions to the
    retriever's ``batch`` together. Keyword arguments of a call reach the retriever: ``chain.invoke(q, k=2)``.

    Args:
        retriever: Any retriever; or a runnable that takes the whole mapping and returns documents, such as a
            history-aware retriever.
        llm: A chat model or another LLM. A ``MemoryChatModel`` is given the question alone: it has read the
            text.
        prompt: With the variables ``context``, the numbered passages, and ``input``. Left out, it is the
            project's own in the language of the question, behind the messages of ``chat_history`` if the
            input has any.

    Raises:
        InputError: At once, no retriever, no LLM, or a prompt without ``context``. At a call, an input
            without a question, or nothing found to answer from.
        MemoRAGError: At a call, an empty answer of an LLM, or a stream of an OpenAI-compatible server that
            broke off without an error.
    """
    for value, role, remedy in (
        (retriever, "retriever", "Give MemoRAGRetriever.from_texts([...]) or another retriever."),
        (llm, "llm", "Give a chat model, such as ChatOpenAI(model='...')."),
    ):
        if not isinstance(value, Runnable):
            raise InputError(f"'{role}' is a {type(value).__name__}; expected a LangChain runnable. {remedy}")
    remembers = isinstance(llm, MemoryChatModel)
    written: Runnable[Any, Any] = _prompt(prompt, remembers=remembers) | llm | _unbroken() | StrOutputParser()
    chain: Runnable[Any, Any] = (
        _WithContext(retriever) | RunnablePassthrough.assign(answer=written) | _cited(remembers=remembers)
    )
    return chain.with_config(run_name="memorag_answer")


class _WithContext(Runnable[Any, Inputs]):
    """The inputs with the documents for them; a batch of questions is one batch of the retriever's."""

    name = "evidence"

    def __init__(self, retriever: Runnable[Any, list[Document]]) -> None:
        self._retriever = retriever
        try:
            self._whole = retriever.InputType is not str
        except TypeError:  # a runnable that does not say what it takes
            self._whole = True

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        return self._retriever.config_specs

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Inputs:  # noqa: A002
        inputs = _inputs(input)
        return _with_context(inputs, self._retriever.invoke(self._asked(inputs), config, **kwargs))

    async def ainvoke(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Inputs:
        inputs = _inputs(input)
        return _with_context(inputs, await self._retriever.ainvoke(self._asked(inputs), config, **kwargs))

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        all_inputs = [_inputs(one) for one in inputs]
        asked = [self._asked(one) for one in all_inputs]
        found = self._retriever.batch(asked, config, return_exceptions=return_exceptions, **kwargs)
        return _each_with_context(all_inputs, found)

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        all_inputs = [_inputs(one) for one in inputs]
        asked = [self._asked(one) for one in all_inputs]
        found = await self._retriever.abatch(asked, config, return_exceptions=return_exceptions, **kwargs)
        return _each_with_context(all_inputs, found)

    def _asked(self, inputs: Inputs) -> Any:
        return inputs if self._whole else inputs["input"]


def _inputs(value: Any) -> Inputs:
    inputs = {"input": value} if isinstance(value, str) else value
    if isinstance(inputs, Mapping) and isinstance(inputs.get("input"), str) and inputs["input"].strip():
        return dict(inputs)
    found = f"a mapping with {', '.join(map(repr, inputs))}" if isinstance(inputs, Mapping) else repr(value)
    raise InputError(
        f"The input of the chain is {found:.200}; expected a question, or a mapping with the question as "
        "'input': chain.invoke({'input': 'Who ...?', 'chat_history': [...]})."
    )


def _with_context(inputs: Inputs, found: Any) -> Inputs:
    if not isinstance(found, list) or not all(isinstance(document, Document) for document in found):
        raise InputError(
            f"The retriever gave a {type(found).__name__}; expected a list of LangChain documents. Leave "
            "out what turns them into text: the chain does it."
        )
    return {**inputs, "context": found}


def _each_with_context(all_inputs: Sequence[Inputs], found: Sequence[Any]) -> list[Any]:
    """Also exceptions, which a batch may be told to return in place of documents."""
    return [
        one if isinstance(one, Exception) else _with_context(inputs, one)
        for inputs, one in zip(all_inputs, found, strict=True)
    ]


def _prompt(prompt: BasePromptTemplate[Any] | None, *, remembers: bool) -> Runnable[Inputs, PromptValue]:
    """From inputs to what the LLM gets."""
    if prompt is None:
        return RunnableLambda(_question if remembers else _own_prompt, name="prompt")
    if not isinstance(prompt, BasePromptTemplate) or "context" not in prompt.input_variables:
        raise InputError(
            f"The prompt is {prompt!r:.200}; expected a prompt template with the variables {{context}}, for "
            "the numbered passages, and {input}. Leave it out for the project's own."
        )
    return RunnablePassthrough.assign(context=_numbered, input=_unmarked) | prompt


# LangChain resolves the annotations of these four outside of this module, to draw the chain: no alias.


def _own_prompt(inputs: dict[str, Any]) -> PromptValue:
    text = answer_prompt(inputs["input"], _texts(inputs))
    before = [_uncited(message) for message in _history(inputs)]
    return ChatPromptValue(messages=[*before, HumanMessage(text)])


def _question(inputs: dict[str, Any]) -> PromptValue:
    return ChatPromptValue(messages=[*_history(inputs), HumanMessage(inputs["input"])])


def _numbered(inputs: dict[str, Any]) -> str:
    return number_passages(_texts(inputs))


def _unmarked(inputs: dict[str, Any]) -> str:
    return without_marks(inputs["input"])


def _history(inputs: Inputs) -> list[BaseMessage]:
    return convert_to_messages(inputs.get("chat_history") or [])


def _uncited(message: BaseMessage) -> BaseMessage:
    """A message of before without citations, for the passages that they named are not those of now."""
    if not isinstance(message, AIMessage) or not isinstance(message.content, str):
        return message
    text = without_citations(message.content)
    return message if text == message.content else message.model_copy(update={"content": text})


def _texts(inputs: Inputs) -> list[str]:
    return [document.page_content for document in inputs["context"]]


def _unbroken() -> Runnable[Any, Any]:
    """What an LLM says as it comes; raises where it broke off without telling.

    A server or proxy that closes a stream in good order, in the middle of an answer, makes no error in the
    client: the answer would be taken for whole.
    """

    def transform(said: Iterator[Any]) -> Iterator[Any]:
        ending = _Ending()
        for one in said:
            ending.take(one)
            yield one
        ending.check()

    async def atransform(said: AsyncIterator[Any]) -> AsyncIterator[Any]:
        ending = _Ending()
        async for one in said:
            ending.take(one)
            yield one
        ending.check()

    return RunnableGenerator(transform, atransform, name="unbroken")


class _Ending:
    """Whether a stream of OpenAI's protocols came to its end."""

    def __init__(self) -> None:
        self._expected = False
        self._came = False

    def take(self, said: Any) -> None:
        metadata = said.response_metadata if isinstance(said, AIMessageChunk) else {}  # else it was no stream
        self._expected |= metadata.get("model_provider") == "openai"
        self._came |= any(metadata.get(name) for name in _ENDED)

    def check(self) -> None:
        if self._expected and not self._came:
            raise MemoRAGError(
                "The stream of the LLM ended before the answer did: no finish reason came. What came so far "
                "is not the whole answer. Ask again; a proxy in between may close streams that take long."
            )


def _cited(*, remembers: bool) -> Runnable[Any, Any]:
    """Pieces of the output, those of the answer read for citations."""

    def transform(pieces: Iterator[Inputs]) -> Iterator[AddableDict]:
        output = _Output(remembers=remembers)
        for piece in pieces:
            yield from output.take(piece)
        yield output.end()

    async def atransform(pieces: AsyncIterator[Inputs]) -> AsyncIterator[AddableDict]:
        output = _Output(remembers=remembers)
        async for piece in pieces:
            for one in output.take(piece):
                yield one
        yield output.end()

    return RunnableGenerator(transform, atransform, name="citations")


class _Output:
    """Puts citations among the pieces of an output, in the order in which they are complete."""

    def __init__(self, *, remembers: bool) -> None:
        self._remembers = remembers
        self._question = ""
        self._context: Sequence[Document] = ()
        self._parser = CitationParser(())
        self._empty = True

    def take(self, piece: Inputs) -> Iterator[AddableDict]:
        others = AddableDict({name: value for name, value in piece.items() if name != "answer"})
        if "context" in others:
            self._question = others.get("input", "")
            self._context = others["context"]
            self._parser = CitationParser([_place(document) for document in self._context])
        if others:
            yield others
        if "answer" in piece:
            # A memory has not seen the passages' numbers: those in what it says are of the text it read.
            answer = piece["answer"]
            read = CitedText(answer) if self._remembers else self._parser.feed(answer)
            self._empty = self._empty and not read.text.strip()
            yield from self._told(read)

    def end(self) -> AddableDict:
        read = self._parser.close()
        if self._empty and not self._remembers and not read.text.strip():
            raise MemoRAGError(
                f"The LLM returned an empty text for {self._question!r} with {len(self._context)} documents; "
                "expected an answer. See whether its token limit leaves room for one."
            )
        # Whoever waits for the whole finds every key, also where there is nothing to tell.
        return AddableDict(answer=read.text, citations=self._blocks(read), unfounded=self._numbers(read))

    def _told(self, read: CitedText) -> Iterator[AddableDict]:
        if read.text:
            yield AddableDict(answer=read.text)
        if read.citations:
            yield AddableDict(citations=self._blocks(read))
        if read.unfounded:
            yield AddableDict(unfounded=self._numbers(read))

    def _blocks(self, read: CitedText) -> list[CitationBlock]:
        return [_block(citation, self._context[citation.evidence]) for citation in read.citations]

    def _numbers(self, read: CitedText) -> list[dict[str, int]]:
        return [_unfounded(one) for one in read.unfounded]


def _place(document: Document) -> Place | None:
    """Where a document says that it stands; None for one of another retriever that does not."""
    named = (document.metadata.get(name) for name in ("document_id", "start", "end"))
    match tuple(named):
        case (str(document_id), int(start), int(end)):
            return Place(document_id, start, end)
        case _:
            return None


def _block(citation: Citation, document: Document) -> CitationBlock:
    extras: dict[str, Any] = {"number": citation.number, "index": citation.evidence}
    if citation.place is not None:
        place = citation.place
        extras |= {"document_id": place.document_id, "start": place.start, "end": place.end}
    title = document.metadata.get("title") or extras.get("document_id") or document.id
    return create_citation(
        id=f"{citation.number}:{citation.start}",  # the same at every run, where LangChain's own is random
        title=None if title is None else str(title),
        start_index=citation.start,
        end_index=citation.end,
        cited_text=document.page_content,
        **extras,
    )


def _unfounded(one: Unfounded) -> dict[str, int]:
    return {"number": one.number, "start_index": one.start, "end_index": one.end}
