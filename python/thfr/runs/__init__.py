"""The run folder: names of its files, reading, writing, threshold."""
