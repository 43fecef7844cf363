"""A vision-language model behind an OpenAI-compatible endpoint, as captioner and as detector that answers yes or no."""

from __future__ import annotations

from torch import Tensor

from efface.core.chat_endpoint import ask
from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.models.image_checks import check_finite
from efface.ops.png import encode_png
from efface.ops.tensor_conversion import to_image_bytes

INSTRUCTION = "Describe this image in one sentence."
INSTEAD = "read the images with pocket's judge or BLIP (--captioner) and the benchmark's detector (--yes-no detector)"


class EndpointReader:
    """Reads images by questions to an endpoint.

    Args:
        endpoint: its address, such as ``http://localhost:11434/v1``.
        language_model: name of the vision-language model there.
        question: question for the concept's presence, which can be answered with yes or no.

    Attributes:
        detector: the model's name, with the address as the version.
    """

    def __init__(self, endpoint: str, language_model: str, question: str) -> None:
        self._endpoint, self._model, self._question = endpoint, language_model, question
        self.detector = DetectorId(language_model, endpoint)

    def captions(self, images: Tensor) -> list[str]:
        """Returns a caption of each image ``(N, 3, H, W)`` in [0, 1]."""
        return [self._ask(INSTRUCTION, image) for image in check_finite(images)]

    def shows(self, images: Tensor) -> list[bool]:
        """Returns whether each image shows the concept.

        Raises:
            EffaceError: an answer that begins with neither yes nor no.
        """
        return [self._yes(self._ask(f"{self._question} Answer yes or no.", image)) for image in check_finite(images)]

    def _yes(self, answer: str) -> bool:
        word = answer.strip().lower()
        if word.startswith(("yes", "no")):
            return word.startswith("yes")
        raise EffaceError(f"{self._model} answers {answer[:80]!r} instead of yes or no: choose another model")

    def _ask(self, question: str, image: Tensor) -> str:
        return ask(
            self._endpoint, self._model, question, instead=INSTEAD, images=[encode_png(to_image_bytes(image))]
        ).strip()
