"""What scorers need fetched, and below which folder each part of it lies."""

from collections.abc import Iterator, Mapping

from pipeline.config.fields import Source
from pipeline.config.sections import DetoxifyScorer, EnsembleScorer, Scorer


def sources_of(scorers: Mapping[str, Scorer]) -> dict[str, Source]:
    """Return the sources of those scorers that have files to fetch, by folder: the scorer's name.

    Detoxify has two, in <name>/checkpoint and <name>/tokenizer; a member of an ensemble has its own in <name>/<member>.
    """
    sources: dict[str, Source] = {}
    for name, scorer in single_scorers(scorers):
        if isinstance(scorer, DetoxifyScorer):
            sources |= {f"{name}/checkpoint": scorer.checkpoint, f"{name}/tokenizer": scorer.tokenizer}
        elif hasattr(scorer, "source"):
            sources[name] = scorer.source
    return sources


def single_scorers(scorers: Mapping[str, Scorer], between: str = "/") -> Iterator[tuple[str, Scorer]]:
    """Yield every scorer with its name, and in the place of an ensemble its members, as <name><between><member>."""
    for name, scorer in scorers.items():
        if isinstance(scorer, EnsembleScorer):
            yield from ((f"{name}{between}{member}", entry.scorer) for member, entry in scorer.members.items())
        else:
            yield name, scorer
