"""From images to scores: what was erased, what was kept, what an attack brings back. No images, no value.

Images are judged as they come and never kept (`base.Sightings`, `fid.FeatureStats`, `kid.Features`, `clip_score.ClipScores`); the
metrics are functions of what remains. `base`, `scoring` and `blocks` are no metrics; a metric's file imports them and no other metric.
"""
