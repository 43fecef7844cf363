"""The page of ``efface serve``, built with Gradio."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported: the page is local

import gradio as gr

from efface.core.errors import EffaceError

from .image_table import image_table
from .studio import MAX_IMAGES, MAX_STEPS, ImageRequest, Studio

CSS = """
#images { min-height: 150px; }
.efface-row { display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr));
  margin-bottom: 14px; }
.efface-row figure { margin: 0; max-width: 420px; }
.efface-row img { width: 100%; display: block; border-radius: 6px; }
.efface-row .pixelated { image-rendering: pixelated; }
.efface-row figcaption { font-size: 13px; overflow-wrap: anywhere; }
.efface-verdict { margin: 6px 0; overflow-wrap: anywhere; }
.efface-row small, .efface-verdict small { display: block; opacity: .7; }
.efface-note { font-size: 13px; opacity: .85; margin: 4px 0; }
.efface-error { padding: 9px 12px; border-left: 4px solid #ae241c; overflow-wrap: anywhere; }
"""
ATTACK_HEADINGS = ["prompt", "seed", "similarity", "erasure", "attack"]
QUEUE = "model"
"""Name of the queue of requests that generate images, which run one at a time."""
MAX_WAITING = 200
"""Number of requests that may wait; the next ones are refused."""


class PageProgress:
    """Shows a phase's images in Gradio's progress bar."""

    def __init__(self, bar: gr.Progress) -> None:
        self._bar, self._phase, self._total = bar, "", 0

    def start(self, phase: str, total: int, done: int) -> None:
        """Starts a phase."""
        self._phase, self._total = phase, total
        self.update(done, {})

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Shows the number of images done."""
        self._bar((done, self._total), desc=self._phase, unit="images")

    def note(self, text: str) -> None:
        """Shows a line beside the page for some seconds."""
        gr.Info(text)

    def stop(self) -> None:
        """Does nothing: the next phase starts at 0."""


def build_page(studio: Studio) -> gr.Blocks:
    """Builds the page; `launch` shows it."""
    labels = list(studio.erasures)
    concept = next(iter(studio.erasures.values())).concepts[0]
    guidance_scale = float(getattr(studio.model, "default_guidance_scale", 3.0))
    with gr.Blocks(title="efface", analytics_enabled=False) as page:
        gr.Markdown(f"# efface\nImages of {studio.model.name} before and after erasures, with the same seeds.")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                prompt = gr.Textbox(f"a photo of a {concept.name}", label="Prompt", lines=2, elem_id="prompt")
                chosen = gr.CheckboxGroup(labels, value=labels[:2], label="Erasures", elem_id="erasures")
                together = gr.Checkbox(False, label="Apply the erasures on top of each other")
                with gr.Accordion("Seeds and sampler", open=False):
                    seed = gr.Number(0, label="Seed of the first image", precision=0, minimum=0)
                    count = gr.Slider(1, MAX_IMAGES, 2, step=1, label="Images per erasure")
                    steps = gr.Slider(1, MAX_STEPS, 20, step=1, label="Sampling steps")
                    scale = gr.Slider(0, 20, guidance_scale, step=0.5, label="Guidance scale")
                button = gr.Button("Generate", variant="primary", elem_id="generate")
            with gr.Column(scale=2, min_width=300):
                images = gr.HTML("", elem_id="images")
        gr.Markdown("## Nearest saved attacks\nChoose a row to use its prompt and seed.")
        attacks = gr.Dataframe(headers=ATTACK_HEADINGS, interactive=False, wrap=True, elem_id="attacks")
        gr.Markdown("## Verdicts")
        gr.HTML(_verdicts_html(studio), elem_id="verdicts")
        inputs = [prompt, chosen, together, seed, count, steps, scale]
        for event in (button.click, prompt.submit):
            event(
                _answer_with(studio), inputs, [images, attacks], api_name="generate",
                show_progress_on=images, concurrency_id=QUEUE, concurrency_limit=1,
            )  # fmt: skip
        attacks.select(_choose_attack, attacks, [prompt, seed])
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def _answer_with(studio: Studio) -> Any:
    def answer(
        prompt: str, chosen: list[str], together: bool, seed: int, count: int, steps: int, scale: float,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio finds it by this default
    ) -> tuple[str, list[list[Any]]]:  # fmt: skip
        try:
            request = ImageRequest(prompt, tuple(chosen), together, seed, count, steps, scale)
            answered = studio.answer(request, PageProgress(bar))
        except EffaceError as error:
            return f'<p class="efface-error" role="alert">{escape(str(error))}</p>', []
        rows = [[a.prompt, a.seed, round(similarity, 2), a.erasure, a.attack] for a, similarity in answered.nearest]
        return image_table(answered), rows

    return answer


def _verdicts_html(studio: Studio) -> str:
    """Returns one paragraph for each erasure: label, concepts and method, verdict, and the evaluation's name."""
    rows = [tuple(map(escape, row)) for row in studio.verdicts()]
    return "".join(
        f"<p class='efface-verdict'><strong>{label}</strong> ({description}): {verdict}<small>{evaluation}</small></p>"
        for label, description, evaluation, verdict in rows
    )


def _choose_attack(rows: Any, event: gr.SelectData) -> tuple[str, int]:
    """Returns prompt and seed of the row that was chosen."""
    row = event.row_value
    return str(row[0]), int(row[1])


def launch(studio: Studio, host: str, port: int, open_browser: bool) -> None:
    """Serves the page at an address of this machine, until Ctrl-C."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    build_page(studio).launch(
        server_name=host, server_port=port, share=False, inbrowser=open_browser, theme=theme, css=CSS,
        footer_links=[], show_error=True, quiet=True,
    )  # fmt: skip
