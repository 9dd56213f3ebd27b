"""Training learns, resumes where it stopped, and leaves what is frozen alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from memorag_core.errors import InputError, StoreError
from memorag_core.memory.beacon.layers import attach, beacon_parameters
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_training.loss import Episode
from memorag_training.tasks import EpisodeSampler, Mix, Prose, split_sentences, tokenize_books
from memorag_training.tokenizer import train_tokenizer
from memorag_training.trainer import OptimizerSettings, Phase, train
from memorag_training.worlds import generate_world

SETTINGS = OptimizerSettings(warmup=5, bfloat16=False)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [generate_world(random.Random(seed), split="train", characters=4000).text for seed in range(12)]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    found: Tokenizer = train_tokenizer(texts, size=400)
    return found


@pytest.fixture(scope="module")
def prose(texts: list[str], tokenizer: Tokenizer) -> Prose:
    return tokenize_books(texts, tokenizer)


def small(vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    attach(model, BeaconSettings(window=32))
    return model


def phase(steps: int, **changes: object) -> Phase:
    given: dict[str, object] = {
        "name": "test",
        "steps": steps,
        "tokens": 32,
        "window": 32,
        "ratios": (4,),
        "documents": 4,
        "rows": 2,
        "mix": Mix(),
        **changes,
    }
    return Phase(**given)  # type: ignore[arg-type]


class Sampled:
    """Draws episodes for a phase, as the recipe does."""

    def __init__(self, prose: Prose, tokenizer: Tokenizer) -> None:
        self._sampler = EpisodeSampler(prose, tokenizer)

    def __call__(self, phase: Phase, generator: random.Random) -> Episode:
        return self._sampler.draw(
            generator,
            documents=phase.documents,
            tokens=phase.tokens,
            rows=phase.rows,
            mix=phase.mix,
            window=phase.window,
            longest=phase.longest,
        )


def test_the_loss_falls(prose: Prose, tokenizer: Tokenizer) -> None:
    model = small(tokenizer.get_vocab_size())
    log = train(model, [phase(40)], Sampled(prose, tokenizer), seed=3, settings=SETTINGS, every=10)
    assert [record["step"] for record in log] == [10, 20, 30, 40]
    assert log[-1]["recall_loss"] < 0.9 * log[0]["recall_loss"]


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    prose: Prose, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    phases = [phase(6), phase(6, tokens=64)]
    whole = small(tokenizer.get_vocab_size())
    train(whole, phases, Sampled(prose, tokenizer), seed=5, settings=SETTINGS, every=4)

    class Interrupted(Exception):
        pass

    def until_the_tenth(step: int, phase: Phase, model: PreTrainedModel) -> dict[str, object]:
        if step == 12:
            raise Interrupted
        return {}

    broken = small(tokenizer.get_vocab_size())
    with pytest.raises(Interrupted):
        train(
            broken,
            phases,
            Sampled(prose, tokenizer),
            seed=5,
            settings=SETTINGS,
            folder=tmp_path,
            observe=until_the_tenth,
            every=4,
        )
    resumed = small(tokenizer.get_vocab_size())
    log = train(
        resumed, phases, Sampled(prose, tokenizer), seed=5, settings=SETTINGS, folder=tmp_path, every=4
    )
    assert [record["step"] for record in log] == [4, 8, 12]
    for (name, expected), (_, found) in zip(
        whole.named_parameters(), resumed.named_parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, msg=name)


@pytest.mark.parametrize(
    ("state", "tensors"),
    [
        ("{", b""),
        ("[]", b""),
        ('{"tensors": null}', b""),
        ('{"tensors": "x.safetensors"}', b"no tensors"),
        ('{"tensors": "x.safetensors"}', (8).to_bytes(8, "little") + b"{}      "),
    ],
)
def test_a_state_that_nobody_saved_is_refused(
    prose: Prose, tokenizer: Tokenizer, tmp_path: Path, state: str, tensors: bytes
) -> None:
    (tmp_path / "state.json").write_text(state)
    (tmp_path / "x.safetensors").write_bytes(tensors)
    with pytest.raises(StoreError, match="Start with a new folder"):
        train(
            small(tokenizer.get_vocab_size()),
            [phase(1)],
            Sampled(prose, tokenizer),
            seed=5,
            settings=SETTINGS,
            folder=tmp_path,
        )


def test_a_state_that_the_disk_refuses_is_told(prose: Prose, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be saved"):
        train(
            small(tokenizer.get_vocab_size()),
            [phase(1)],
            Sampled(prose, tokenizer),
            seed=5,
            settings=SETTINGS,
            folder=tmp_path / "file" / "below",
            every=1,
        )


def test_a_frozen_base_is_not_touched(prose: Prose, tokenizer: Tokenizer) -> None:
    model = small(tokenizer.get_vocab_size())
    beacons = {id(parameter) for _, parameter in beacon_parameters(model)}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(
        model,
        [phase(3)],
        Sampled(prose, tokenizer),
        seed=5,
        settings=OptimizerSettings(warmup=1, bfloat16=False, beacons_only=True),
    )
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter, before[name])
        # The last layer's beacons have no one to ask for: their queries never reach the loss.
        unreached = name.startswith("model.layers.1.") and ".q_proj.twin" in name
        assert same == (id(parameter) not in beacons or unreached), name


def test_documents_of_half_windows_are_refused() -> None:
    with pytest.raises(InputError, match="whole windows"):
        phase(1, tokens=40)


def test_rows_on_prose_want_what_stands_in_the_document(prose: Prose, tokenizer: Tokenizer) -> None:
    sampler = EpisodeSampler(prose, tokenizer)
    episode = sampler.draw(random.Random(1), documents=6, tokens=96, rows=5, mix=Mix(), window=32)
    end = tokenizer.token_to_id("<|end|>")
    assert len(episode.rows) >= 12
    for row in episode.rows:
        document = episode.documents[row.document].tolist()
        wanted = [token for token in row.target if token != end]
        assert any(document[at : at + len(wanted)] == wanted for at in range(len(document)))


def test_rows_on_worlds_want_the_evidence_or_say_that_there_is_none(
    prose: Prose, tokenizer: Tokenizer
) -> None:
    sampler = EpisodeSampler(prose, tokenizer)
    none, line, end = (tokenizer.token_to_id(f"<|{name}|>") for name in ("none", "line", "end"))
    span = tokenizer.token_to_id("<|span|>")
    episode = sampler.draw(random.Random(2), documents=8, tokens=256, rows=12, mix=Mix(worlds=1.0), window=32)
    texts = [tokenizer.decode(document.tolist()) for document in episode.documents]
    spans = nothing = 0
    for row in episode.rows:
        if row.prompt[-1] != span or row.target[-1] != end:
            continue
        if row.target[0] == none:
            nothing += 1
            continue
        pieces: list[list[int]] = [[]]
        for token in row.target[:-1]:
            pieces.append([]) if token == line else pieces[-1].append(token)
        for piece in pieces:
            assert tokenizer.decode(piece).strip() in texts[row.document]
        spans += 1
    assert spans > 10
    assert nothing > 0


def test_a_row_knows_where_its_reply_stands_in_the_document(prose: Prose, tokenizer: Tokenizer) -> None:
    sampler = EpisodeSampler(prose, tokenizer)
    mix = Mix(worlds=0.6, pairs=2, brief=0.5, absent=0.2)
    episode = sampler.draw(random.Random(3), documents=10, tokens=128, rows=12, mix=mix, window=32)
    none, span, text = (tokenizer.token_to_id(f"<|{name}|>") for name in ("none", "span", "text"))
    placed = 0
    for row in episode.rows:
        document = episode.documents[row.document].tolist()
        assert 0 <= row.start <= row.stop <= len(document)
        assert (row.start == row.stop) or row.target[0] != none
        if row.start < row.stop and row.prompt[-1] == span:
            first = min(5, row.stop - row.start)
            assert document[row.start : row.start + first] == list(row.target[:first])
            placed += 1
        if row.start < row.stop and row.prompt[-1] == text:
            asked = row.prompt[1:-1]
            assert document[row.start : row.start + len(asked)] == list(asked)
    assert placed > 20


def test_brief_rows_want_the_first_tokens_alone(prose: Prose, tokenizer: Tokenizer) -> None:
    sampler = EpisodeSampler(prose, tokenizer)
    episode = sampler.draw(random.Random(4), documents=6, tokens=96, rows=5, mix=Mix(brief=1.0), window=32)
    assert {len(row.target) for row in episode.rows} == {6}


def test_sentences_end_where_they_end() -> None:
    text = 'He came. "Who?" she said.\n\nChapter 2\n\nMr Smith went home.  It was late!'
    assert split_sentences(text) == [
        "He came.",
        '"Who?" she said.',
        "Chapter 2",
        "Mr Smith went home.",
        "It was late!",
    ]
