"""A passage that several queries find is one node for what fuses and what drops duplicates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext, get_response_synthesizer
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.node_parser import HierarchicalNodeParser, SentenceSplitter, get_leaf_nodes
from llama_index.core.postprocessor import (
    LongContextReorder,
    MetadataReplacementPostProcessor,
    PrevNextNodePostprocessor,
    SimilarityPostprocessor,
)
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import (
    AutoMergingRetriever,
    BaseRetriever,
    QueryFusionRetriever,
    RouterRetriever,
)
from llama_index.core.schema import Document, MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.tools import RetrieverTool

from llama_index_memorag import (
    FoundNode,
    MemoRAGConversationRetriever,
    MemoRAGRetriever,
    MemoRAGSummaryRetriever,
)
from memorag_core import ChunkSettings, Conversation, MemoRAG
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import DOCUMENTS, QUESTION
from tests.llama_index.doubles import WordRetriever, nodes, vector_index

MODES = ("simple", "reciprocal_rerank", "relative_score", "dist_based_score")
ABOUT_ONE = ("Who repairs every clock?", "What does Anna Holt repair?")
OTHERS = ("When does the ferry leave?", "What does Oskar bake?")
BEST = "Anna Holt"


class Queries(CustomLLM):
    """Writes the same queries for every question."""

    queries: list[str]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return CompletionResponse(text="\n".join(self.queries))

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponseGen:
        yield self.complete(prompt)


class Every(BaseSelector):
    """Chooses all choices."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        return None

    def _select(self, choices: Sequence[Any], query: QueryBundle) -> SelectorResult:
        return SelectorResult(
            selections=[SingleSelection(index=at, reason="all") for at in range(len(choices))]
        )

    async def _aselect(self, choices: Sequence[Any], query: QueryBundle) -> SelectorResult:
        return self._select(choices, query)


def fusing(
    retrievers: list[BaseRetriever], mode: str, queries: Sequence[str], **how: Any
) -> QueryFusionRetriever:
    return QueryFusionRetriever(
        retrievers,
        llm=Queries(queries=list(queries)),
        num_queries=1 + len(queries),
        similarity_top_k=50,
        mode=mode,  # type: ignore[arg-type]
        **how,
    )


def over_nodes(given: Sequence[TextNode] | None = None) -> MemoRAGRetriever:
    rag = MemoRAG(SentenceModel(), progress=False)
    return MemoRAGRetriever.from_documents(given if given is not None else nodes(), 4, memorag=rag)


def keys(found: Sequence[NodeWithScore]) -> set[tuple[str, str]]:
    return {(one.node.node_id, one.node.hash) for one in found}


# Fusion


@pytest.mark.parametrize("mode", MODES)
async def test_what_several_queries_find_is_fused_as_one(memorag: MemoRAG, mode: str) -> None:
    retriever = MemoRAGRetriever(memorag)
    for queries in (ABOUT_ONE, OTHERS):
        found = fusing([retriever], mode, queries, use_async=False).retrieve(QUESTION)
        assert sorted(one.get_content() for one in found) == sorted(one.text for one in DOCUMENTS)
        again = await fusing([retriever], mode, queries).aretrieve(QUESTION)
        assert [one.node_id for one in again] == [one.node_id for one in found]
    best = fusing([retriever], mode, ABOUT_ONE, use_async=False).retrieve(QUESTION)[0]
    assert BEST in best.get_content()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("other", ["words", "vectors", "over"])
async def test_beside_another_retriever_over_the_same_nodes_each_is_one(mode: str, other: str) -> None:
    ours = over_nodes()
    beside: BaseRetriever = WordRetriever()
    if other == "vectors":
        beside = vector_index().as_retriever(similarity_top_k=4)
    elif other == "over":
        beside = MemoRAGRetriever(ours.memorag, 4, over=vector_index())
    found = fusing([ours, beside], mode, ABOUT_ONE, use_async=False).retrieve(QUESTION)
    assert keys(found) == {(node.node_id, node.hash) for node in nodes()}
    assert len(found) == len(nodes())
    assert BEST in found[0].get_content()
    again = await fusing([ours, beside], mode, ABOUT_ONE).aretrieve(QUESTION)
    assert [one.node_id for one in again] == [one.node_id for one in found]


def test_annotated_nodes_are_others_for_each_query(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag, annotate=True)
    found = [one for query in (QUESTION, *ABOUT_ONE) for one in retriever.retrieve(query)]
    assert len(keys(found)) > len(DOCUMENTS)


def test_routers_give_each_node_once() -> None:
    ours = over_nodes()
    tools = [RetrieverTool.from_defaults(one, description="A source.") for one in (ours, WordRetriever())]
    found = RouterRetriever(Every(), tools, llm=MockLLM()).retrieve("Who repairs every clock?")
    assert keys(found) == {(node.node_id, node.hash) for node in nodes()}
    assert len(found) == len(nodes())


# The node


def test_a_node_that_was_given_comes_back_as_it_was() -> None:
    text = "\n\n".join(one.text for one in DOCUMENTS) * 3
    book = Document(text=text, id_="book", metadata={"title": "The island", "tags": ["a"]})
    given = SentenceSplitter(chunk_size=40, chunk_overlap=8).get_nodes_from_documents([book])
    given[1].excluded_llm_metadata_keys = ["tags"]
    assert len(given) > 4
    before = {node.node_id: node.model_copy(deep=True) for node in given}
    ours = over_nodes(given)  # type: ignore[arg-type]
    for question in (QUESTION, *ABOUT_ONE, *OTHERS):
        for found in ours.retrieve(question):
            node = found.node
            old = before[node.node_id]
            assert isinstance(node, TextNode)
            assert isinstance(old, TextNode)
            assert node.hash == old.hash
            assert (node.text, node.metadata, node.ref_doc_id) == (old.text, old.metadata, "book")
            assert (node.start_char_idx, node.end_char_idx) == (old.start_char_idx, old.end_char_idx)
            assert node.excluded_llm_metadata_keys == old.excluded_llm_metadata_keys
            for mode in MetadataMode:
                assert node.get_content(mode) == old.get_content(mode)
            assert {one: info.node_id for one, info in node.relationships.items()} == {  # type: ignore[union-attr]
                one: info.node_id  # type: ignore[union-attr]
                for one, info in old.relationships.items()
            }


def test_a_node_with_white_space_at_its_ends_comes_back_whole() -> None:
    given = [TextNode(text=f"\n{one.text} \n", id_=one.id, metadata={"page": 1}) for one in DOCUMENTS]
    assert keys(over_nodes(given).retrieve(QUESTION)) == {(node.node_id, node.hash) for node in given}


def test_parts_of_a_node_say_where_they_are_in_its_document() -> None:
    book = Document(text="A preface.\n\n" + " ".join(one.text for one in DOCUMENTS), id_="book")
    (whole,) = SentenceSplitter(chunk_size=400).get_nodes_from_documents([book])
    cut = TextNode(
        text=book.text[12:],
        id_="cut",
        relationships=whole.relationships,
        start_char_idx=12,
        end_char_idx=len(book.text),
    )
    unknown = TextNode(text="Birch burns well. It is dry.", id_="unknown", relationships=whole.relationships)
    rag = MemoRAG(SentenceModel(), chunks=ChunkSettings(size=70), progress=False)
    found = MemoRAGRetriever.from_documents([cut, unknown], 4, memorag=rag).retrieve(QUESTION)
    assert len({one.node_id for one in found}) == 4
    for one in found:
        node = one.node
        assert isinstance(node, TextNode)
        assert node.ref_doc_id == "book"
        if node.node_id.startswith("cut"):
            assert node.text == book.text[node.start_char_idx : node.end_char_idx]
        else:
            assert (node.start_char_idx, node.end_char_idx) == (None, None)


def test_leaves_of_a_hierarchy_are_merged() -> None:
    book = Document(text=" ".join(one.text for one in DOCUMENTS), id_="book")
    parser = HierarchicalNodeParser.from_defaults(chunk_sizes=[128, 24], chunk_overlap=0)
    every = parser.get_nodes_from_documents([book])
    docstore = SimpleDocumentStore()
    docstore.add_documents(every)
    leaves = get_leaf_nodes(every)
    ours = over_nodes(leaves)  # type: ignore[arg-type]
    ours.k = len(leaves)
    context = StorageContext.from_defaults(docstore=docstore)
    merging: Any = AutoMergingRetriever  # it says that it takes vector retrievers only
    merged = merging(ours, context, simple_ratio_thresh=0.5).retrieve(QUESTION)
    assert [one.node_id for one in merged] == [every[0].node_id]
    near = PrevNextNodePostprocessor(docstore=docstore, num_nodes=1, mode="both")
    ours.k = 1
    assert len(near.postprocess_nodes(ours.retrieve(QUESTION))) > 1


def test_what_a_caller_does_to_a_node_stays_with_that_caller() -> None:
    given = [TextNode(text=one.text, id_=one.id, metadata={"tags": ["a"]}) for one in DOCUMENTS]
    ours = over_nodes(given)
    before = keys(ours.retrieve(QUESTION))
    for found in ours.retrieve(QUESTION):
        found.node.metadata["tags"].append("b")
        assert found.node.source_node is not None
        found.node.source_node.metadata["tags"].append("c")
        found.node.set_content("Changed.")
    assert keys(ours.retrieve(QUESTION)) == before


# Postprocessors and synthesizers


async def test_postprocessors_and_synthesizers_take_what_is_found(memorag: MemoRAG) -> None:
    given = [
        TextNode(text=one.text, id_=one.id, metadata={"window": f"{one.text} And so on."})
        for one in DOCUMENTS
    ]
    ours = over_nodes(given)
    found = ours.retrieve(QUESTION)
    assert all(isinstance(one, FoundNode) for one in found)
    kept = SimilarityPostprocessor(similarity_cutoff=found[1].get_score()).postprocess_nodes(found)
    assert BEST in kept[0].get_content()
    assert keys(LongContextReorder().postprocess_nodes(found)) == keys(found)
    window = MetadataReplacementPostProcessor(target_metadata_key="window")
    engine = RetrieverQueryEngine.from_args(ours, llm=MockLLM(), node_postprocessors=[window])
    assert "And so on." in str(await engine.aquery(QUESTION))
    assert keys(ours.retrieve(QUESTION)) == {(node.node_id, node.hash) for node in given}
    for mode in ("compact", "refine", "tree_summarize", "accumulate"):
        synthesizer = get_response_synthesizer(response_mode=mode, llm=MockLLM())  # type: ignore[arg-type]
        assert BEST in str(RetrieverQueryEngine(ours, response_synthesizer=synthesizer).query(QUESTION))


def test_a_found_node_can_be_written_as_json_with_how_it_was_found(memorag: MemoRAG) -> None:
    for rank, found in enumerate(MemoRAGRetriever(memorag).retrieve(QUESTION), start=1):
        assert isinstance(found, FoundNode)
        written = json.loads(found.to_json())
        assert (written["rank"], written["clues"]) == (rank, found.clues)
        assert TextNode(**written["node"]) == found.node


# Identity over questions, processes and time


def test_a_summary_s_nodes_are_the_same_for_every_question(memorag: MemoRAG) -> None:
    retriever = MemoRAGSummaryRetriever(memorag, 2)
    found = [
        *retriever.retrieve(""),
        *retriever.retrieve(QUESTION),
        *MemoRAGRetriever(memorag).retrieve(QUESTION),
    ]
    assert len(keys(found)) == len({one.get_content() for one in found})


def test_turns_are_the_same_nodes_for_every_question() -> None:
    conversation = Conversation(MemoRAG(SentenceModel(), progress=False))
    for place in ("Oslo", "Bergen", "Graz"):
        conversation.add("user", f"Mara Venn lives in {place} now.")
    retriever = MemoRAGConversationRetriever(conversation, 3)
    found = [*retriever.retrieve("Where does Mara Venn live?"), *retriever.retrieve("Who lives in Oslo now?")]
    assert len(keys(found)) == 3


CHILD = """
import sys
from llama_index_memorag import MemoRAGRetriever
from tests.core.doubles import SentenceModel

retriever = MemoRAGRetriever.from_persist_dir(sys.argv[1], 4, model=SentenceModel())
for one in retriever.retrieve("Who mends timepieces?"):
    print(one.node.node_id, one.node.hash, one.node.ref_doc_id)
"""


def test_nodes_are_the_same_after_saving_and_in_another_process(tmp_path: Path) -> None:
    given = [
        TextNode(text=one.text, id_=one.id, metadata={"z": 1, "a": {"y": [1, None], "b": "ü"}})
        for one in DOCUMENTS
    ]
    ours = over_nodes(given)
    ours.persist(tmp_path / "kept")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "kept")], capture_output=True, text=True, check=True
    )
    expected = [
        f"{one.node.node_id} {one.node.hash} {one.node.ref_doc_id}" for one in ours.retrieve(QUESTION)
    ]
    assert done.stdout.splitlines() == expected
    assert {line.split()[1] for line in expected} == {node.hash for node in given}
