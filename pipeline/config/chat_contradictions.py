"""Checks between the keys that chat experiments and preference data sets need."""

from collections.abc import Iterator

from pipeline.config.sections import ChatData, DatasetPreferences, ExperimentFile, PromptList


def chat_contradictions(file: ExperimentFile) -> Iterator[str]:
    """Yield one `key: what is wrong, what was expected` line for every contradiction."""
    if isinstance(file.preferences, DatasetPreferences):
        yield from _preferences(file)
    if isinstance(file.data, ChatData):
        yield from _lists(file.data)


def _preferences(file: ExperimentFile) -> Iterator[str]:
    given = file.data.pairs is not None if isinstance(file.data, ChatData) else file.data.dataset == "jsonl"
    if not given:
        yield (
            "preferences.kind: expected on_policy, since `data` has no pairs (data.pairs of dataset chat, or rows of "
            "dataset jsonl), got dataset; correct one of them"
        )
    if file.refusal is None:
        yield (
            "refusal: expected a judge of refusals, without which the polarity of preferences.kind dataset cannot be "
            "checked, got null; add it"
        )


def _lists(data: ChatData) -> Iterator[str]:
    for name, listed in data.lists.items():
        if listed.eval_fraction + listed.dev_fraction + listed.train_fraction > 1 + 1e-9:
            expected = "expected at most 1 together with dev_fraction and train_fraction"
            yield f"data.lists.{name}.eval_fraction: {expected}; lower one of them"
        if (listed.field is None) != listed.file.endswith(".txt"):
            yield f"data.lists.{name}.field: expected null for a .txt file and a name for any other; correct it"
        if listed.field is None and listed.category is not None:
            yield f"data.lists.{name}.category: expected null, since a .txt file has no fields; write null"
    missing = [split for split, share in _shares(data).items() if not share]
    if missing:
        yield (
            f"data.lists: expected prompts for train, dev and eval, got none for {' and '.join(missing)}; correct "
            "eval_fraction and dev_fraction, or add a list"
        )


def _shares(data: ChatData) -> dict[str, float]:
    lists: list[PromptList] = list(data.lists.values())
    learnt = sum(listed.train_fraction for listed in lists)
    return {
        "train": max(learnt, float(data.pairs is not None)),
        "dev": sum(listed.dev_fraction for listed in lists),
        "eval": sum(listed.eval_fraction for listed in lists),
    }
