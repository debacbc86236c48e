"""Scorers: one file each. A scorer gives every text its toxicity in [0, 1]; one that it cannot score is missing, never 0."""
