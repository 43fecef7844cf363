"""Attacks inside training and what attacks are given: embedding search, warm starts, the context of an attack."""
