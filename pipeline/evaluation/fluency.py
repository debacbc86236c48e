"""How likely the experiment's fluency model finds every completion, as rows beside those of the judges."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline import paths
from pipeline.config.sections import Fluency
from pipeline.evaluation.rows import FLUENCY, Completion


def fluency_rows(completions: Sequence[Completion], fluency: Fluency, experiment: str) -> Iterator[dict[str, Any]]:
    """Yield one row a completion, sorted by prompt_id and sample; none where the base model measures perplexity.

    The model reads the completion alone, never the prompt. Raises UserError when its checkpoint is not whole.
    """
    if fluency.kind == "base":
        return
    from pipeline.fluency import FluencyModel  # late: the base model's experiments need none of its libraries

    model = FluencyModel(paths.fluency(experiment), fluency)
    ordered = sorted(completions, key=lambda row: row.key)
    likelihoods = model.likelihoods([row.completion for row in ordered])
    if cut := sum(found.cut for found in likelihoods):
        logging.getLogger(__name__).info(
            "fluency: %d of %d completions cut at %d tokens", cut, len(ordered), fluency.max_tokens
        )
    for row, found in zip(ordered, likelihoods, strict=True):
        where = {"prompt_id": row.prompt_id, "sample": row.sample}
        yield {**where, "model": FLUENCY, "model_sha256": model.fingerprint, **found._asdict()}
