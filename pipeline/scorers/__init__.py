"""Scorers: one file each. A scorer gives every text its toxicity in [0, 1]; one it cannot score is missing, never 0."""

from pipeline.config.declarations import ScorerKind, declared

SCORERS: dict[str, ScorerKind] = declared(
    __name__,
    "SCORER",
    (
        "profanity_check",
        "embedding_head",
        "sequence_classifier",
        "detoxify",
        "word_list",
        "keyword",
        "ensemble",
    ),
)
