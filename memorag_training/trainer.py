"""The training loop: phases of a curriculum over episodes, resumable, over several processes.

In: an attached model, phases, a sampler of episodes. Out: the trained model, a log of measurements. Knows
nothing of where episodes come from.

Layer matrices are trained with Muon (orthogonalized momentum), all else with AdamW. Several processes each
draw their own episodes and average their gradients.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from memorag_core.errors import InputError, StoreError
from memorag_core.memory.beacon.layers import beacon_parameters
from memorag_core.system.disk import taken
from memorag_training.loss import Episode, episode_loss
from memorag_training.tasks import Mix

logger = logging.getLogger(__name__)

# What a file that was not written by this raises, on its way into a model.
_UNFIT = (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the curriculum: so many steps on episodes of one shape.

    Attributes:
        name: shown in the log.
        steps: optimizer steps.
        tokens: raw tokens of a document.
        window: raw tokens in a window.
        ratios: drawn from at each step.
        documents: documents in a step, in each process.
        rows: questions on each document.
        mix: kinds of rows.
        gap: the largest position gap before a window; half of the windows get one.
        longest: tokens of a target at most.
        focus: share of the focused loss in the recall loss; see ``EpisodeLoss``.
    """

    name: str
    steps: int
    tokens: int
    window: int
    ratios: tuple[int, ...]
    documents: int
    rows: int
    mix: Mix
    gap: int = 512
    longest: int = 44
    focus: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.documents < 1 or self.rows < 1:
            raise InputError(f"phase {self.name!r} needs at least 1 step, document and row; found {self}.")
        if self.tokens % self.window:
            raise InputError(
                f"phase {self.name!r} has documents of {self.tokens} tokens; "
                f"expected whole windows of {self.window}."
            )


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Learning rates and their course; the defaults are those that made recall appear soonest in trials."""

    matrix_rate: float = 0.01
    other_rate: float = 2e-3
    warmup: int = 50
    cooldown: float = 0.3
    """Share of all steps over which the rate falls linearly to nearly 0."""
    document_weight: float = 0.2
    """Weight of the next token of the document beside the recalled tokens."""
    document_share: float = 0.25
    """Share of the document's tokens whose prediction is counted at a step."""
    place_weight: float = 0.0
    """Weight of looking at the place of the reply; see ``EpisodeLoss.placed``."""
    place_layer: int = -2
    """The layer that is to look there."""
    place_heads: int = 2
    """So many of its heads."""
    clip: float = 1.0
    beacons_only: bool = False
    """Train the beacon parameters alone, the base model frozen (as for a pretrained base)."""
    bfloat16: bool = True
    """Matrix products in bfloat16 under autocast, weights in float32."""


Draw = Callable[[Phase, random.Random], Episode]
Observer = Callable[[int, Phase, PreTrainedModel], Mapping[str, Any]]


@dataclass(slots=True)
class _State:
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


def train(
    model: PreTrainedModel,
    phases: Sequence[Phase],
    draw: Draw,
    *,
    seed: int,
    settings: OptimizerSettings = OptimizerSettings(),
    folder: Path | None = None,
    observe: Observer | None = None,
    every: int = 50,
) -> list[dict[str, Any]]:
    """Train through the phases; resumes from ``folder`` when it holds an unfinished run.

    Args:
        model: an attached model, changed in place.
        phases: the curriculum, in order.
        draw: makes the episode of a step from the phase and a generator seeded by (seed, step, process).
        seed: of everything drawn.
        settings: learning rates.
        folder: where state and log are kept; nothing is written without one.
        observe: measurements to add to the log, called every ``every`` steps on the first process.
        every: steps between log lines and saved states.

    Returns:
        The log, a record every ``every`` steps.
    """
    folder = None if folder is None else taken(folder, "folder")
    rank, world = _processes()
    parameters = _trainable(model, settings.beacons_only)
    optimizers = _optimizers(parameters, settings)
    total = sum(phase.steps for phase in phases)
    state = _State()
    if folder is not None and (folder / "state.json").exists():
        state = _restore(folder, model, optimizers)
        logger.info("resumed at step %d of %d", state.step, total)
    model.train()
    started = time.perf_counter() - state.seconds
    recent: list[tuple[float, ...]] = []
    while state.step < total:
        phase = _phase_at(phases, state.step)
        generator = random.Random(f"{seed}/{state.step}/{rank}")
        episode = draw(phase, generator)
        rate = _rate(state.step, total, settings)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
        measured = _step(
            model, episode, phase, generator, settings, [p for _, p in parameters], optimizers, world
        )
        recent.append(measured)
        state.step += 1
        state.tokens += world * (
            episode.documents.numel() + sum(len(r.prompt) + len(r.target) for r in episode.rows)
        )
        state.seconds = time.perf_counter() - started
        if state.step % every == 0 or state.step == total:
            if rank == 0:
                recall, document, correct, found, placed = (
                    sum(column) / len(recent) for column in zip(*recent, strict=True)
                )
                record: dict[str, Any] = {
                    "step": state.step,
                    "phase": phase.name,
                    "tokens": state.tokens,
                    "seconds": round(state.seconds, 1),
                    "recall_loss": round(recall, 4),
                    "document_loss": round(document, 4),
                    "correct": round(correct, 4),
                    "found": round(found, 4),
                    "placed": round(placed, 4),
                }
                if observe is not None:
                    model.eval()
                    record.update(observe(state.step, phase, model))
                    model.train()
                state.log.append(record)
                logger.info("%s", json.dumps(record))
                if folder is not None:
                    _save(folder, state, model, optimizers)
            recent = []
    model.eval()
    return state.log


def _step(
    model: PreTrainedModel,
    episode: Episode,
    phase: Phase,
    generator: random.Random,
    settings: OptimizerSettings,
    parameters: Sequence[nn.Parameter],
    optimizers: Sequence[torch.optim.Optimizer],
    world: int,
) -> tuple[float, ...]:
    ratio = generator.choice(phase.ratios)
    windows = phase.tokens // phase.window
    gaps = [
        generator.randrange(phase.gap + 1) if phase.gap and generator.random() < 0.5 else 0
        for _ in range(windows + 1)
    ]
    places = episode.documents.numel()
    chosen = generator.sample(range(places), max(1, int(places * settings.document_share)))
    device = next(model.parameters()).device
    episode = Episode(episode.documents.to(device), episode.rows)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.bfloat16):
        losses = episode_loss(
            model,
            episode,
            window=phase.window,
            ratio=ratio,
            gaps=gaps,
            document_positions=torch.tensor(sorted(chosen), device=device),
            watched=(
                (settings.place_layer % model.config.num_hidden_layers, settings.place_heads)
                if settings.place_weight
                else None
            ),
        )
        recall = (1 - phase.focus) * losses.recall + phase.focus * losses.focused
        loss = recall + settings.document_weight * losses.document + settings.place_weight * losses.placed
    if not math.isfinite(loss.item()):
        raise InputError(f"the loss is {loss.item()} in phase {phase.name!r}; lower the learning rates.")
    loss.backward()
    if world > 1:
        _average([p.grad for p in parameters if p.grad is not None], world)
    nn.utils.clip_grad_norm_(parameters, settings.clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    measured = (losses.recall, losses.document, losses.correct, losses.found, losses.placed)
    return tuple(value.item() for value in measured)


def _trainable(model: PreTrainedModel, beacons_only: bool) -> list[tuple[str, nn.Parameter]]:
    if beacons_only:
        chosen = list(beacon_parameters(model))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for _, parameter in chosen:
            parameter.requires_grad_(True)
        return chosen
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _optimizers(
    parameters: Sequence[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in parameters if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in parameters if not (p.ndim == 2 and ".layers." in name)]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=settings.matrix_rate, weight_decay=0.0))
    if others:
        optimizers.append(
            torch.optim.AdamW(others, lr=settings.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _rate(step: int, total: int, settings: OptimizerSettings) -> float:
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    falling = max(1.0, settings.cooldown * total)
    return min(warm, max(0.02, (total - step) / falling))


def _phase_at(phases: Sequence[Phase], step: int) -> Phase:
    for phase in phases:
        if step < phase.steps:
            return phase
        step -= phase.steps
    raise InputError("the step lies behind the last phase.")


def _processes() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _average(gradients: Sequence[Tensor], world: int) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def _save(
    folder: Path, state: _State, model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Write model, optimizers and log; the JSON comes last and names the tensors it belongs to.

    Raises:
        StoreError: the disk refused; what was saved before is still there.
    """
    try:
        _write(folder, state, model, optimizers)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"The state of the training cannot be saved to '{folder}': {error}. What was saved there before "
            "is unchanged. Free space or grant access, and start again: it goes on from there."
        ) from error


def _write(
    folder: Path, state: _State, model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer.{number}.{index}.{name}"] = torch.as_tensor(value).detach().clone()
    name = f"state-{state.step}.safetensors"
    save_file(tensors, folder / name)
    beside = folder / "state.json.part"
    beside.write_text(json.dumps({"tensors": name, **asdict(state)}, indent=1))
    os.replace(beside, folder / "state.json")
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            with suppress(OSError):  # it is saved already; the next time removes it
                old.unlink()


def _restore(folder: Path, model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer]) -> _State:
    """What was saved.

    Raises:
        StoreError: it is damaged, or of another model.
    """
    try:
        return _read(folder, model, optimizers)
    except _UNFIT as error:
        raise StoreError(
            f"The training's state in '{folder}' cannot be read, or is of another model: {error!r:.200}. "
            "Start with a new folder."
        ) from error


def _read(folder: Path, model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer]) -> _State:
    saved = json.loads((folder / "state.json").read_text())
    path = folder / saved.pop("tensors")
    if not path.exists():
        raise StoreError(
            f"{folder / 'state.json'} names {path.name}, which is missing; start with a new folder."
        )
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        prefix = f"optimizer.{number}."
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, name = key.removeprefix(prefix).split(".", 1)
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return _State(**saved)
