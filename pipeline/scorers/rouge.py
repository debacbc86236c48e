"""ROUGE, the overlap of a completion with human-written references (Lin 2004)."""

from collections.abc import Sequence

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}  # ours -> the name in rouge-score


def rouge(completions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return `rouge_1`, `rouge_2` and `rouge_l` of each completion: its best F1 in [0, 1] over its references.

    Words are runs of a-z and 0-9 in lower case, not stemmed (rouge-score's default): it is for English. A reference
    that holds none is left out; NaN where that leaves none, since there is nothing to find.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # The default tokenizer by name: left to itself, the library says in every log that it takes it.
    scorer = RougeScorer(list(ROUGE.values()), tokenizer=DefaultTokenizer(use_stemmer=False))
    found: dict[str, list[float]] = {name: [] for name in ROUGE}
    for completion, given in zip(completions, references, strict=True):
        scores = [scorer.score(target=text, prediction=completion) for text in given if _has_words(text)]
        for ours, theirs in ROUGE.items():
            found[ours].append(max((float(score[theirs].fmeasure) for score in scores), default=float("nan")))
    return found


def _has_words(text: str) -> bool:
    return any(character.isascii() and character.isalnum() for character in text)
