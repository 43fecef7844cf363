"""The work behind the page: one model and several erasures of it, one request at a time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efface.api.generated_images import describe_settings, generate_images
from efface.api.validation import load_base, load_erasure
from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import read_evaluations
from efface.core.policy import check_prompts
from efface.models.model_ref import ModelLike
from efface.ops.editing.active_gates import active_gates
from efface.ops.editing.apply import applied
from efface.ops.editing.base_check import check_base
from efface.reporting.side_by_side import labels_of

from .saved_attacks import SavedAttack, nearest_attacks, read_saved_attacks

if TYPE_CHECKING:
    from torch import Tensor

    from efface.models.editable import EditableModel
    from efface.ops.training.progress import Progress

MAX_CHARACTERS = 2000
"""Longest prompt that is tokenized."""
MAX_IMAGES, MAX_STEPS, NUM_NEAREST = 8, 100, 5
BEFORE = "before"
"""Label of the images without an erasure."""


@dataclass(frozen=True)
class ImageRequest:
    """What a visitor asks for.

    Attributes:
        prompt: The prompt.
        erasures: Labels of the erasures.
        together: Whether the erasures are applied on top of each other, instead of one at a time.
        seed: Seed of the first image; the next ones count up.
        num_images: Number of images per row.
        num_inference_steps: Number of sampling steps.
        guidance_scale: Classifier-free guidance scale.
    """

    prompt: str
    erasures: tuple[str, ...]
    together: bool = False
    seed: int = 0
    num_images: int = 2
    num_inference_steps: int = 20
    guidance_scale: float = 3.0


@dataclass(frozen=True)
class ImageRow:
    """Images ``(N, 3, H, W)`` as bytes, with the erasures applied that the label names.

    ``gates`` holds each gate's description and the strength that it gave the prompt.
    """

    label: str
    images: Tensor
    gates: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """The images of a request.

    Attributes:
        rows: The row before any erasure, then one for each erasure, or one for all of them.
        seeds: Seeds of the images of each row.
        settings: Model and sampler in words.
        nearest: Saved attacks that are nearest to the prompt, with their similarity.
        warnings: Warnings of the model, such as black images.
    """

    rows: tuple[ImageRow, ...]
    seeds: tuple[int, ...]
    settings: str
    nearest: tuple[tuple[SavedAttack, float], ...]
    warnings: tuple[str, ...]


class Studio:
    """One model and erasures of it; `answer` may be called from several threads and works for one at a time.

    Args:
        folders: Folders of erasures of one base model.
        model: Base model; by default the first erasure's own.
        allow_base_mismatch: Accept another base model than an erasure's own.

    Raises:
        EffaceError: A folder without an erasure, or an erasure of another base model.
    """

    def __init__(
        self, folders: Sequence[Path], model: ModelLike | None = None, allow_base_mismatch: bool = False
    ) -> None:
        self.folders: Mapping[str, Path] = dict(zip(labels_of(folders), folders, strict=True))
        self.erasures: Mapping[str, Erasure] = {label: load_erasure(path) for label, path in self.folders.items()}
        self.attacks = tuple(
            attack for label, path in self.folders.items() for attack in read_saved_attacks(path, label)
        )
        self.model: EditableModel = load_base(next(iter(self.erasures.values())), model)
        self._allow_base_mismatch = allow_base_mismatch
        for erasure in self.erasures.values():
            check_base(self.model, erasure, allow_base_mismatch=allow_base_mismatch)
        self._lock = threading.Lock()

    def verdicts(self) -> list[tuple[str, str, str, str]]:
        """Returns a row for each erasure: label, what it is, its first evaluation's name, and the verdict on it."""
        rows = []
        for label, erasure in self.erasures.items():
            spec = erasure.spec
            names = concept_names(spec.concepts)
            evaluations = read_evaluations(self.folders[label], spec)
            name, verdict = (evaluations[0].name, evaluations[0].verdict.headline) if evaluations else ("", "")
            rows.append((label, f"{names} by {spec.method}", name, verdict or "not evaluated"))
        return rows

    def check(self, request: ImageRequest) -> None:
        """Checks a request before any image is generated.

        Raises:
            ContentPolicyError: The content policy refuses the prompt.
            EffaceError: A prompt that is too long, no or an unknown erasure, or a number out of its range.
        """
        for name, value, low, high in (
            ("the number of images", request.num_images, 1, MAX_IMAGES),
            ("the number of steps", request.num_inference_steps, 1, MAX_STEPS),
            ("the seed", request.seed, 0, 2**31),
            ("the guidance scale", request.guidance_scale, 0, 100),
        ):
            if value is None or not low <= value <= high:
                raise EffaceError(f"{name} is {value}: choose one from {low} to {high}")
        if not request.erasures:
            raise EffaceError("no erasure is chosen: choose at least one")
        if unknown := sorted(set(request.erasures) - set(self.erasures)):
            raise EffaceError(f"unknown erasure {unknown[0]!r}: choose from {', '.join(self.erasures)}")
        self._check_prompt(request.prompt)

    def _check_prompt(self, prompt: str) -> None:
        if len(prompt) > MAX_CHARACTERS:
            raise EffaceError(f"the prompt has {len(prompt)} characters: shorten it to {MAX_CHARACTERS} at most")
        check_prompts([prompt], "the prompt")
        if lost := self.model.truncated_text([prompt]).get(prompt):
            shown = lost if len(lost) <= 60 else f"{lost[:60]}…"
            raise EffaceError(f"the prompt is too long for {self.model.name}, which would not read {shown!r}: cut it")

    def nearest(self, request: ImageRequest) -> tuple[tuple[SavedAttack, float], ...]:
        """Returns the saved attacks on the chosen erasures that are nearest to the prompt, with their similarity."""
        chosen = [attack for attack in self.attacks if attack.erasure in request.erasures]
        return tuple(nearest_attacks(request.prompt, chosen, NUM_NEAREST))

    def answer(self, request: ImageRequest, progress: Progress | None = None) -> Answer:
        """Generates the images before and after; waits until the requests before this one are answered.

        Raises:
            EffaceError: What `check` raises, or two erasures that cannot be applied on top of each other.
        """
        self.check(request)
        with self._lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            rows = [self._row(request, BEFORE, (), progress)]
            if request.together:
                rows.append(self._row(request, " + ".join(request.erasures), request.erasures, progress))
            else:
                rows += [self._row(request, label, (label,), progress) for label in request.erasures]
        texts = dict.fromkeys(str(item.message) for item in caught if issubclass(item.category, UserWarning))
        settings = describe_settings(self.model, request.num_inference_steps, request.guidance_scale)
        seeds = tuple(range(request.seed, request.seed + request.num_images))
        return Answer(tuple(rows), seeds, settings, self.nearest(request), tuple(texts))

    def _row(self, request: ImageRequest, label: str, erasures: Sequence[str], progress: Progress | None) -> ImageRow:
        """Generates the images with these erasures applied."""
        pairs = [(request.prompt, request.seed + i) for i in range(request.num_images)]
        with ExitStack() as stack:
            for name in erasures:
                stack.enter_context(applied(self.model, self.erasures[name], self._allow_base_mismatch))
            images = generate_images(
                self.model, pairs, request.num_inference_steps, request.guidance_scale, phase=label,
                has_erasure=bool(erasures), progress=progress,
            )  # fmt: skip
            gates = tuple((gate.label, list(gate.log.values())[-1]) for gate in active_gates(self.model) if gate.log)
        return ImageRow(label, images, gates)
