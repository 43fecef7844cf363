"""Studies on top of the verbs: ablations of a method, embedding topology, and the repetition of papers' experiments."""
