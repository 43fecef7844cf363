"""ELIDE at full size: preparation, steps, and scans of the vocabulary; no denoiser runs in training."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any
from unittest.mock import patch

from clocks import Clock, Peak
from full_size_closed import ClosedFormBench
from full_size_timing import CONCEPT, number

import efface.methods.elide as elide
from efface.ops.elide.state_targets import StateTargets
from efface.ops.elide.vocabulary import domain_candidates
from efface.ops.elide.vocabulary_retention import SCAN_LIMIT, VocabularyRetention

NUM_DOMAIN_WORDS = 40
"""Domain words of a broad domain; on pocket, weapon has 39."""


class ElideBench(ClosedFormBench):
    """The parts of `ClosedFormBench`, and ELIDE."""

    def elide(self) -> dict[str, Any]:
        """A step, a scan of the vocabulary and of the domain's prompts, the preparation, and a whole run."""
        self.say("elide")
        clock, peak = Clock(self.model.device), Peak(self.model.device)
        defaults = elide.Config()
        steps = self.rounds + 1
        config = replace(defaults, steps=steps, warmup_steps=0, measure_every=steps)
        words = domain_candidates(self.model, CONCEPT)[:NUM_DOMAIN_WORDS]
        run = self.run_for("elide", clock)
        with (
            patch.object(elide, "find_domain_words", lambda *_: words),
            patch.object(VocabularyRetention, "measure", clock.wrapped("scan", VocabularyRetention.measure)),
            patch.object(StateTargets, "all_losses", clock.wrapped("domain", StateTargets.all_losses)),
            clock.measure("whole"),
        ):
            elide.elide(self.model, [CONCEPT], config, run)
        times = run.progress.steps  # type: ignore[attr-defined]
        step, scan = fmean(times[1:]), clock.seconds["scan"] + clock.seconds["domain"]
        preparation = clock.seconds["whole"] - sum(times)
        scans = -(-defaults.steps // defaults.measure_every)
        whole = preparation + defaults.steps * step + scans * scan
        prompts = f"{len(words)} domain words in {defaults.num_templates} templates"
        return {
            "preparation": number(preparation, False, f"targets of {prompts}, and the held words"),
            "step": number(step, False, f"{self.rounds} steps, {defaults.attack_steps} attack steps each"),
            "scan": number(scan, False, f"at most {SCAN_LIMIT} held words, and {prompts}"),
            "whole": number(
                whole, True, f"{defaults.steps} steps and {scans} scans, without the images", peak.gigabytes()
            ),
        }
