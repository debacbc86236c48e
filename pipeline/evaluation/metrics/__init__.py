"""What is measured of a policy beside its toxicity, one file each; a new metric is a file and a word in this list."""

from pipeline.config.declarations import Metric, declared

METRICS: dict[str, Metric] = declared(
    __name__,
    "METRIC",
    (
        "perplexity_median",
        "distinct",
        "repetition",
        "empty_rate",
        "length_mean",
        "finished_rate",
        "kl",
        "identity_mention_rate",
        "identity_perplexity",
        "refusal",
        "rouge",
        "agreement",
        "accuracy",
    ),
)
