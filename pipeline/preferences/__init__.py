"""Chosen and rejected completions: sampled on policy, or those of a data set."""
