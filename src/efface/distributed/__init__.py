"""Several processes: the launcher's environment, collectives, scheduling of batches and attack searches."""
