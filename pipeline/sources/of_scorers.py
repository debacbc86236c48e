"""L1: what scorers need fetched, and below which folder each part of it lies."""

from collections.abc import Mapping

from pipeline.config.sections import DetoxifyScorer, Scorer, Source


def sources_of(scorers: Mapping[str, Scorer]) -> dict[str, Source]:
    """Return the sources of those scorers that have files to fetch, by folder: the scorer's name.

    Detoxify has two, in <name>/checkpoint and <name>/tokenizer.
    """
    sources: dict[str, Source] = {}
    for name, scorer in scorers.items():
        if isinstance(scorer, DetoxifyScorer):
            sources |= {f"{name}/checkpoint": scorer.checkpoint, f"{name}/tokenizer": scorer.tokenizer}
        elif hasattr(scorer, "source"):
            sources[name] = scorer.source
    return sources
