"""The label of an image that a detector does not classify."""

from __future__ import annotations

CANNOT_TELL = "cannot tell"
"""The label where the confidence is below the detector's threshold."""
