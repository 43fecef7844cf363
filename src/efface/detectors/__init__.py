"""Images to verdicts: each detector declares its id, version, licence, threshold and measured error."""
