"""A corpus that lives: what an append, an update and a delete cost, as shares of reading all of it.

    python benchmarks/living.py --threads 4 --out living.json

Documents of about 2,000 tokens of real text, 300,000 tokens in all, are memorized with the bundled model.
Then one percent is appended, and documents near the end, in the middle and near the beginning are updated or
deleted. ``tokens`` is what the model ran, ``said`` what the pipeline said before that it would run, ``share``
the seconds over those of reading everything; they include chunks and the lexical index, which is built anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from memorag_core import BeaconModel, Document, MemoRAG
from memorag_core.memory.bundled import bundled_path
from memorag_evaluation.record import circumstances, table, write_record

HEADS = ("change", "place", "said", "tokens", "of all", "seconds", "share")
DOCUMENT = 5_000
"""Characters of a document."""


def main() -> None:
    """Measure and print a line for each change."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, help="a text in UTF-8 (default: Python's own documentation)")
    parser.add_argument("--tokens", type=int, default=300_000, help="in all (%(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--one-memory", action="store_true", help="in one stream, without parts")
    parser.add_argument("--ratio", type=int, help="raw tokens to a memory slot (default: the model's own)")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = BeaconModel.from_pretrained(
        bundled_path(),
        device="cpu",
        ratio=options.ratio,
        capacity=None if options.one_memory else "auto",
    )
    rows = measure(model, documents(model, text_of(options.text), options.tokens))
    about = circumstances(["python", *sys.argv], device="cpu", seed=0)
    print(f"a living corpus, {about['date']}, {about['processor']}, {about['threads']} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "ratio": model.ratio, "rows": rows})


def text_of(path: Path | None) -> str:
    """A text: a file's, or Python's own documentation."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def documents(model: BeaconModel, text: str, tokens: int) -> list[Document]:
    """Documents of about the same length, the text over and over until there are so many tokens."""
    found: list[Document] = []
    start, total = 0, 0
    while total < tokens:
        if start + DOCUMENT > len(text):
            start = 0
        document = Document(text[start : start + DOCUMENT], id=str(len(found)))
        total += model.tokens_of([document])
        found.append(document)
        start += DOCUMENT
    return found


def measure(model: BeaconModel, whole: list[Document]) -> list[dict[str, object]]:
    """Read everything, then each change from the same corpus."""
    more = [
        Document(document.text[::-1], id=f"new {document.id}")
        for document in whole[: max(1, len(whole) // 100)]
    ]
    rows: list[dict[str, object]] = []
    all_tokens = all_seconds = 0.0

    def row(change: str, place: str, said: int, run: Callable[[], object]) -> None:
        nonlocal all_tokens, all_seconds
        tokens, seconds = timed(model, run)
        if not rows:
            all_tokens, all_seconds = tokens, seconds
        rows.append(
            {
                "change": change,
                "place": place,
                "said": said,
                "tokens": tokens,
                "of all": round(tokens / all_tokens, 4),
                "seconds": round(seconds, 2),
                "share": round(seconds / all_seconds, 4),
            }
        )

    rag = MemoRAG(model, progress=False)
    row("memorize", "", model.tokens_of(whole), lambda: rag.memorize(whole))
    row("memorize", "1 % more", model.tokens_of(more, rag.memory), lambda: rag.memorize(more))
    for share in (0.99, 0.9, 0.5, 0.1):
        old = whole[int(len(whole) * share)]
        new = Document(old.text.upper(), id=old.id)
        said = rag.tokens_to_update(new).tokens
        row("update", f"at {share:.0%}", said, lambda new=new: rag.update(new))  # type: ignore[misc]
        rag.update(old)
    for share in (0.9, 0.5):
        old = whole[int(len(whole) * share)]
        said = rag.tokens_to_delete(old.id).tokens
        row("delete", f"at {share:.0%}", said, lambda name=old.id: rag.delete(name))  # type: ignore[misc]
    return rows


def timed(model: BeaconModel, run: Callable[[], object]) -> tuple[int, float]:
    """Raw tokens that pass the model's embedding while something runs, and its seconds."""
    counted: list[int] = []
    embedding = model.model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _, ids: counted.append(ids[0].numel()))
    start = time.perf_counter()
    try:
        run()
    finally:
        hook.remove()
    return sum(counted), time.perf_counter() - start


if __name__ == "__main__":
    main()
