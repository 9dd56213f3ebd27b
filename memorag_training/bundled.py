"""The recipe of the bundled memory model (``python -m memorag_training.bundled``).

In: a folder with ``prose/train.jsonl.gz`` (a JSON object with ``id`` and ``text`` a line). Out: a checkpoint
folder with its training log. What was chosen for the bundled model is stated here and nowhere else.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from memorag_core.memory import checkpoint_files as finding
from memorag_core.memory.beacon.checkpoint import save_checkpoint
from memorag_core.memory.beacon.layers import attach
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_training.loss import Episode
from memorag_training.tasks import EpisodeSampler, Mix, Prose, tokenize_books
from memorag_training.tokenizer import save_tokenizer, train_tokenizer
from memorag_training.trainer import OptimizerSettings, Phase, train

logger = logging.getLogger(__name__)

SEED = 20261121
WINDOW = 128
SETTINGS = BeaconSettings(window=WINDOW, ratios=(4, 8), params=("q", "k", "v"), embed_init="eos")

USAGE: dict[str, Any] = {
    "format": 1,
    "capacity": 2048,
    "overlap": 128,
    "ratio": 4,
    "pad_windows": True,
    "line_token": "<|line|>",
    "none_token": "<|none|>",
    "least_score": -0.5,
    "max_new_tokens": {"span": 96, "query": 32, "answer": 16, "key_point": 96},
    "prompts": {
        "language": "en",
        "chat": False,
        "context": "{context}",
        "tasks": {
            "span": "<|ask|>{question}<|span|>",
            "query": "<|ask|>{question}<|query|>",
            "answer": "<|ask|>{question}<|answer|>",
            "key_point": "<|ask|>{question}<|span|>",
        },
    },
}
"""How the model wants to be read and asked: ``memorag-usage.json``. Requests are those of training rows."""

_READ = Mix(text=0.5, cue=0.5)
_ASK = Mix(
    text=0.15,
    cue=0.85,
    worlds=0.65,
    pairs=2,
    asides=0.4,
    nothing=0.1,
    absent=0.06,
    brief=0.5,
)
_DENSE = replace(_ASK, worlds=0.7, lists=0.55, brief=0.7, pairs=1)
_FULL = replace(_DENSE, lists=0.35)
_LONG = replace(_DENSE, lists=0.2, excess=0.2, nothing=0.15)

# Stage 1: language modelling and reconstruction through the memory. Recall does not appear when it starts
# with long documents; it begins with one window of 32 tokens.
STAGE_1 = (
    Phase("read-32", 500, 32, 32, (4,), documents=12, rows=2, mix=_READ, gap=64),
    Phase("read-64", 150, 64, 32, (4,), documents=10, rows=4, mix=_READ, gap=128),
)
# Stage 2: question to clue, on generated worlds and on prose. Short documents teach what goes with what, long
# ones to tell a fact from many others.
STAGE_2 = (
    Phase("ask-64", 400, 64, 64, (4,), documents=14, rows=5, mix=_ASK, focus=0.5, gap=256),
    Phase("ask-128", 400, 128, 64, (4, 4, 8), documents=8, rows=8, mix=_ASK, focus=0.5),
    Phase("ask-256", 25, 256, 128, (4, 4, 8), documents=6, rows=14, mix=_ASK, focus=0.5),
    Phase("list-128", 400, 128, 64, (4, 4, 8), documents=8, rows=12, mix=_DENSE, focus=0.5),
    Phase("ask-256", 500, 256, 128, (4, 4, 8), documents=6, rows=18, mix=_FULL, focus=0.5),
    Phase("ask-512", 600, 512, 128, (4, 4, 4, 8), documents=4, rows=30, mix=_FULL, focus=0.5),
    Phase("ask-1024", 400, 1024, 128, (4, 4, 4, 8), documents=2, rows=48, mix=_LONG, focus=0.5),
    Phase("ask-2048", 250, 2048, 128, (4, 4, 4, 8), documents=1, rows=64, mix=_LONG, focus=0.5),
)

# Stages 3 and 4: whole replies again. The rows of stage 2 are mostly brief and about worlds, so that what a
# model finds it begins to copy badly; two more runs at half the rate, the second mostly on books, mend that.
_WHOLE = Mix(
    text=0.5,
    cue=0.5,
    worlds=0.45,
    lists=0.3,
    pairs=1,
    asides=0.4,
    nothing=0.15,
    absent=0.06,
    brief=0.2,
)
STAGE_3 = (
    Phase("whole-256", 75, 256, 128, (4, 4, 4, 8), documents=6, rows=12, mix=_WHOLE, focus=0.3),
    Phase("whole-512", 125, 512, 128, (4, 4, 4, 8), documents=4, rows=18, mix=_WHOLE, focus=0.3),
    Phase("whole-1024", 125, 1024, 128, (4, 4, 4, 8), documents=2, rows=28, mix=_WHOLE, focus=0.3),
)
_BOOKS = replace(_WHOLE, worlds=0.35, brief=0.1)
STAGE_4 = (
    Phase("books-256", 150, 256, 128, (4, 4, 4, 8), documents=6, rows=12, mix=_BOOKS, focus=0.3),
    Phase("books-512", 150, 512, 128, (4, 4, 4, 8), documents=4, rows=18, mix=_BOOKS, focus=0.3),
    Phase("books-1024", 150, 1024, 128, (4, 4, 4, 8), documents=2, rows=28, mix=_BOOKS, focus=0.3),
)

_FINDING = OptimizerSettings(place_weight=0.3)
_COPYING = OptimizerSettings(place_weight=0.3, matrix_rate=0.005, other_rate=1e-3, warmup=20, cooldown=0.7)


def fresh_model(vocabulary: int, *, pad: int, eos: int) -> PreTrainedModel:
    """An untrained model of the bundled shape with beacons attached."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=True,
        eos_token_id=eos,
        bos_token_id=eos,
        pad_token_id=pad,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        max_position_embeddings=65536,
    )
    model = LlamaForCausalLM(config)
    attach(model, SETTINGS)
    return model


def is_held_out(book: str) -> bool:
    """Whether a book is kept for measuring: about one in twenty, by the hash of its id."""
    return hashlib.sha256(book.encode()).digest()[0] % 20 == 0


def read_books(data: Path) -> Iterator[tuple[str, str]]:
    """The (id, text) of every book of ``prose/train.jsonl.gz``."""
    with gzip.open(data / "prose" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            book = json.loads(line)
            yield book["id"], book["text"]


def prepare(data: Path, folder: Path) -> None:
    """Train the tokenizer and tokenize the books, once; later calls find them in ``folder``."""
    if (folder / "prose" / "ids.npy").exists():
        return
    books = [text for book, text in read_books(data) if not is_held_out(book)]
    draw = random.Random(SEED)
    samples = []
    for text in books:
        for _ in range(3):
            start = draw.randrange(max(1, len(text) - 8000))
            samples.append(text[start : start + 8000])
    tokenizer = train_tokenizer(samples)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenize_books(books, tokenizer).save(folder / "prose")


def _load(folder: Path) -> tuple[Any, Prose]:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json")), Prose.load(folder / "prose")


def export(model: PreTrainedModel, folder: Path, out: Path) -> None:
    """Write the checkpoint folder: weights in bfloat16, the tokenizer of ``folder``, and its usage."""
    from tokenizers import Tokenizer

    save_checkpoint(model, out, settings=SETTINGS, dtype=torch.bfloat16)
    save_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), out)
    (out / finding.USAGE).write_text(json.dumps(USAGE, indent=1) + "\n", encoding="utf-8")


def _run(rank: int, processes: int, folder: Path, out: Path, port: int) -> None:
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING, format="%(asctime)s %(message)s"
    )
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes
        )
    tokenizer, prose = _load(folder)
    model = fresh_model(
        tokenizer.get_vocab_size(), pad=tokenizer.token_to_id("<|pad|>"), eos=tokenizer.token_to_id("<|end|>")
    )
    sampler = EpisodeSampler(prose, tokenizer)

    def draw(phase: Phase, generator: random.Random) -> Episode:
        return sampler.draw(
            generator,
            documents=phase.documents,
            tokens=phase.tokens,
            rows=phase.rows,
            mix=phase.mix,
            window=phase.window,
            longest=phase.longest,
        )

    log: list[dict[str, Any]] = []
    for name, phases, settings in (
        ("run", (*STAGE_1, *STAGE_2), _FINDING),
        ("run-whole", STAGE_3, _COPYING),
        ("run-books", STAGE_4, _COPYING),
    ):
        log += train(model, phases, draw, seed=SEED, settings=settings, folder=folder / name, every=25)
    if rank == 0:
        export(model, folder, out)
        lines = [json.dumps({"processes": processes, "torch": torch.__version__})]
        lines += [json.dumps(record) for record in log]
        (out / "training.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if processes > 1:
        dist.destroy_process_group()


def main() -> None:
    """Prepare the data, train, and write the checkpoint folder."""
    parser = argparse.ArgumentParser(description="Train the bundled memory model.")
    parser.add_argument("--data", type=Path, required=True, help="folder with prose/train.jsonl.gz")
    parser.add_argument(
        "--work", type=Path, default=Path("build/bundled"), help="where data and state are kept"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bundled/model"), help="the checkpoint folder")
    parser.add_argument("--processes", type=int, default=3, help="training processes, one thread each")
    parser.add_argument("--port", type=int, default=29511, help="loopback port the processes meet at")
    arguments = parser.parse_args()
    prepare(arguments.data, arguments.work)
    if arguments.processes == 1:
        _run(0, 1, arguments.work, arguments.out, arguments.port)
    else:
        # What spawn is, torch does not export for type checkers.
        torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            _run,
            args=(arguments.processes, arguments.work, arguments.out, arguments.port),
            nprocs=arguments.processes,
        )


if __name__ == "__main__":
    main()
