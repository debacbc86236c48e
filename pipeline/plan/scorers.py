"""How much memory the classifiers take, by their kind."""

from collections.abc import Iterable

from pipeline.config.sections import DetoxifyScorer, EnsembleScorer, Scorer

MB = 10**6
# Bytes of float32 weights, by the number of parameters that their authors state.
DETOXIFY = {"original": 438 * MB, "unbiased": 499 * MB, "multilingual": 1112 * MB}  # BERT, RoBERTa, XLM-R base
ENCODERS = {
    "embedding_head": 91 * MB,  # all-MiniLM-L6-v2
    "sequence_classifier": 499 * MB,  # RoBERTa base, which the classifiers of the published systems are
    "profanity_check": 110 * MB,  # measured: scikit-learn, its vocabulary and weights
}
READING = 100 * MB  # activations of a batch of texts


def scorer_bytes(scorer: Scorer) -> int:
    """Return what one scorer takes; word lists take nothing that could be measured."""
    if isinstance(scorer, EnsembleScorer):
        return sum(scorer_bytes(member.scorer) for member in scorer.members.values())
    if isinstance(scorer, DetoxifyScorer):
        return DETOXIFY[scorer.variant] + READING
    return ENCODERS.get(scorer.kind, 0) + (READING if scorer.kind == "sequence_classifier" else 0)


def all_bytes(scorers: Iterable[Scorer]) -> int:
    """Return what several scorers take together."""
    return sum(map(scorer_bytes, scorers))
