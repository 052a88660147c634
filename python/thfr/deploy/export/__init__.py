"""Export of a run: one graph, its metadata, and the gate that compares it with the run."""
