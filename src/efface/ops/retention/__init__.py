"""What keeps retain prompts as they were: relation graph, Top-K drift."""
