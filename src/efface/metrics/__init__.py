"""Metrics: from what a detector reports for each image to scores with intervals.

Images are judged as they are generated and never stored (`detections.Detections`, `fid.FeatureMoments`,
`kid.FeatureStream`, `clip_score.ClipScoreAccumulator`). Each metric is a function of what these hold. A metric
without images has no value, never 0. The modules `detections`, `pairing`, `rate_score` and `jackknife` are shared
helpers; a metric imports them and no other metric.
"""
