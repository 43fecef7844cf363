"""Building blocks of methods for language models: texts about a concept, batches of texts, and losses."""
