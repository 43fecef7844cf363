"""An erasure's edits on a model and off again, and whether they changed anything."""
