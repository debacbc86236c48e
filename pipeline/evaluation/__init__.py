"""From completions to results: scores, toxicity metrics, guards, intervals, the comparison table."""
