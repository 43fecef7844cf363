"""Work in several processes: the launcher's environment, collectives, scheduling and attack searches."""
