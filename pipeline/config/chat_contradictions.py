"""Checks between the keys that chat experiments and preference data sets need."""

from collections.abc import Iterator

from pipeline.config.sections import LABELS, ChatData, DatasetPreferences, ExperimentFile, PromptList
from pipeline.config.shown import shortened, shown

RATES = {f"refusal_rate_{label}": label for label in LABELS}  # guards


def chat_contradictions(file: ExperimentFile) -> Iterator[str]:
    """Yield one `key: what is wrong, what was expected` line for every contradiction."""
    if isinstance(file.preferences, DatasetPreferences):
        yield from _preferences(file)
    if isinstance(file.data, ChatData):
        yield from _lists(file.data)
        yield from _files(file, file.data)
        yield from _rates(file, file.data)


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
        key = f"data.lists.{name}"
        if name in LABELS:
            yield f"{key}: expected another name, since every message has its list's name beside its label; rename it"
        if listed.eval_fraction + listed.dev_fraction + listed.train_fraction > 1 + 1e-9:
            expected = "expected at most 1 together with dev_fraction and train_fraction"
            yield f"{key}.eval_fraction: {expected}; lower one of them"
        if (listed.field is None) != listed.file.endswith(".txt"):
            yield f"{key}.field: expected null for a .txt file and a name for any other; correct it"
        if listed.field is None and listed.category is not None:
            yield f"{key}.category: expected null, since a .txt file has no fields; write null"
    missing = [split for split, share in _shares(data).items() if not share]
    if missing:
        yield (
            f"data.lists: expected prompts for train, dev and eval, got none for {' and '.join(missing)}; correct "
            "their fractions, or add a list"
        )


def _files(file: ExperimentFile, data: ChatData) -> Iterator[str]:
    """Yield files that no source has: they are named by the source's name and what it brings."""
    used = {f"data.lists.{name}.file": listed.file for name, listed in data.lists.items()}
    if data.pairs is not None:
        used["data.pairs.file"] = data.pairs.file
    if file.refusal is not None and file.refusal.labelled is not None:
        used["refusal.labelled.file"] = file.refusal.labelled.file
    for key, path in used.items():
        if path.partition("/")[0] not in data.sources:
            sources = shortened(", ".join(sorted(data.sources)), 300)
            yield f"{key}: expected a file of one of data.sources ({sources}), got {shown(path)}; correct it"


def _rates(file: ExperimentFile, data: ChatData) -> Iterator[str]:
    """Yield guards of refusal rates on prompts that there are none of."""
    evaluated = {listed.label for listed in data.lists.values() if listed.eval_fraction > 0}
    for name, label in RATES.items():
        if name in file.evaluate.guards and label not in evaluated:
            yield (
                f"evaluate.guards.{name}: expected prompts of the label {label} in data.lists that are evaluated, got "
                "none; remove the guard or add a list"
            )


def _shares(data: ChatData) -> dict[str, float]:
    lists: list[PromptList] = list(data.lists.values())
    learnt = sum(listed.train_fraction for listed in lists)
    return {
        "train": max(learnt, float(data.pairs is not None)),
        "dev": sum(listed.dev_fraction for listed in lists),
        "eval": sum(listed.eval_fraction for listed in lists),
    }
