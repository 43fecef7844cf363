"""From pictures to scores: what was erased, what was kept, what an attack brings back. No pictures, no value.

Pictures are judged as they come and never kept (`base.Sightings`, `fid.FeatureStats`, `kid.Features`, `clip_score.ClipScores`); the
metrics are functions of what remains. A metric's file imports `base` or `blocks`, which are no metrics, and no other metric.
"""
