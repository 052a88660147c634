"""What methods share: the optimisation loop, features computed once, patches, maps."""
