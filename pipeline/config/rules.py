"""Rules that need more than one key of an experiment file."""

from collections.abc import Iterator

from pipeline.config.sections import (
    LABELS,
    AdapterReference,
    ChatData,
    DatasetPreferences,
    DetoxifyScorer,
    DialogSumData,
    EnsembleScorer,
    ExperimentFile,
    PromptData,
    PromptList,
    RewriteData,
    Scorer,
    SequenceClassifierScorer,
)
from pipeline.io.errors import shortened, shown

GUARDED = (  # values of every evaluation that a guard may watch; the tasks of `probe` add theirs
    "perplexity_median",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "repetition",
    "empty_rate",
    "length_mean",
    "finished_rate",
    "kl",
    "identity_mention_rate",
    "identity_perplexity",
    "rouge_1",
    "rouge_2",
    "rouge_l",
)


def contradictions(file: ExperimentFile) -> Iterator[str]:
    """Yield one `key: what is wrong, what was expected` line for every contradiction between keys."""
    yield from _model(file)
    yield from _data(file)
    yield from _identity(file)
    yield from _scorers(file)
    yield from _judge(file)
    yield from _ppo(file)
    yield from _complete(file)
    yield from _evaluate(file)
    yield from chat_contradictions(file)


def _model(file: ExperimentFile) -> Iterator[str]:
    model, reference = file.model, file.reference
    if (model.source is None) == (model.build is None):
        found = "neither" if model.source is None else "both"
        yield f"model.source: expected this or model.build, the other one null, got {found}; correct one of them"
    if model.build is not None and model.architecture != "seq2seq":
        yield f"model.architecture: expected seq2seq (model.build makes a T5), got {model.architecture}; correct it"
    if model.build is not None and reference.kind != "full":
        yield (
            "reference.kind: expected full, since model.build makes random weights, which nothing can start from, "
            f"got {reference.kind}; correct it"
        )
    if isinstance(reference, AdapterReference) and file.lora != reference.lora:
        yield (
            "lora: expected the same values as reference.lora, since every method goes on from a copy of the "
            "reference's adapter; correct one of them"
        )
    if reference.kind == "full" and model.quantization is not None:
        yield (
            "model.quantization: expected null, since reference.kind full trains all weights, which 4 bits cannot "
            f"hold, got {model.quantization}; correct one of them"
        )
    if reference.kind != "base" and isinstance(file.data, PromptData | ChatData) and file.data.dataset != "jsonl":
        yield (
            f"reference.kind: expected base, since {file.data.dataset} has no demonstrations to train on, "
            f"got {reference.kind}; correct it"
        )
    if model.architecture == "seq2seq" and file.fluency.kind == "base":
        yield (
            "fluency.kind: expected causal_lm, since an encoder-decoder model has no likelihood of a text alone, "
            "got base; correct it"
        )


def _data(file: ExperimentFile) -> Iterator[str]:
    if isinstance(file.data, ChatData):
        return
    if isinstance(file.data, DialogSumData):
        if file.data.min_characters > file.data.max_characters:
            yield "data.min_characters: expected at most data.max_characters; correct one of them"
        return
    if isinstance(file.data, RewriteData):
        if file.data.min_words > file.data.max_words:
            yield "data.min_words: expected at most data.max_words; correct one of them"
        if all(text.split != "content" for text in file.data.texts.values()):
            yield "data.texts: expected split content of one at least, for dev and eval prompts; correct one"
    if file.data.eval_fraction + file.data.dev_fraction >= 1:
        yield (
            "data.eval_fraction: expected less than 1 together with data.dev_fraction; the rest is the train split; "
            "lower one of them"
        )


def _identity(file: ExperimentFile) -> Iterator[str]:
    for key in ("terms", "templates"):
        values = getattr(file.identity, key)
        if len(set(values)) != len(values):
            yield f"identity.{key}: expected every one once; remove the second of each"


def _scorers(file: ExperimentFile) -> Iterator[str]:
    judges, reward = file.score.judges, file.reward.name
    known = {reward, *file.scorers}
    used = {f"score.judges[{index}]": name for index, name in enumerate(judges)}
    used |= {"judge.scorer": file.judge.scorer}
    for key, name in used.items():
        if name not in known:
            listed = shortened(", ".join(sorted(known)), 500)
            yield f"{key}: expected one of the scorers {listed}, got {shown(name)}; name one of them or add it"
    if reward in file.scorers:
        yield f"scorers.{reward}: this name is the reward scorer's (reward.name); give one of them another"
    if set(judges) <= {reward}:
        yield f"score.judges: the reward scorer {reward!r} may not be the only judge; add a held-out one"
    if len(set(judges)) != len(judges):
        yield "score.judges: expected every judge once; remove the second of each"
    if file.judge.scorer == reward:
        yield f"judge.scorer: the held-out judge may not be the reward scorer {reward!r}; name another of score.judges"
    for name, scorer in sorted(file.scorers.items()):
        if scorer == file.reward.scorer:
            yield f"scorers.{name}: this is the reward scorer {reward!r} under another name; remove it"
        if scorer.kind == "embedding_head" and name != file.judge.scorer:
            yield f"scorers.{name}: kind embedding_head is for the held-out judge alone, which `judge` fits; remove it"
    has_logits = isinstance(file.reward.scorer, SequenceClassifierScorer | DetoxifyScorer)
    if file.reward.output != "toxicity" and not has_logits:
        yield (
            f"reward.output: expected toxicity, since a scorer of kind {file.reward.scorer.kind} has no logits, "
            f"got {file.reward.output}; correct it"
        )
    yield from _held_out(file)
    if file.reward.scorer.kind == "embedding_head":
        yield "reward.scorer.kind: embedding_head is for the held-out judge alone, which `judge` fits; name another"
    if judges[0] != file.judge.scorer:
        yield f"score.judges[0]: expected the held-out judge {file.judge.scorer!r} as primary judge; put it first"


def _held_out(file: ExperimentFile) -> Iterator[str]:
    """Yield where the held-out judge rewards under another name, whatever its other settings are."""
    held_out, reward = file.scorers.get(file.judge.scorer), file.reward.scorer
    rewarding: dict[str, Scorer] = {"reward.scorer": reward}
    if isinstance(reward, EnsembleScorer):
        rewarding = {f"reward.scorer.members.{name}": member.scorer for name, member in reward.members.items()}
        weights = [_weights(scorer) for scorer in rewarding.values()]
        if any(weights.count(found) > 1 for found in weights):
            yield "reward.scorer.members: expected every scorer once; remove the second of each"
    for key, scorer in rewarding.items():
        if held_out is not None and _weights(scorer) == _weights(held_out):
            yield f"{key}: this is the held-out judge {file.judge.scorer!r}, which may not reward; name another"


def _weights(scorer: Scorer) -> object:
    """Return what makes a scorer the one that it is: the weights that it reads, all of its settings without any."""
    if isinstance(scorer, DetoxifyScorer):
        return scorer.checkpoint
    return getattr(scorer, "source", scorer)


def _judge(file: ExperimentFile) -> Iterator[str]:
    scorer = file.scorers.get(file.judge.scorer)
    fit = file.judge.fit
    needs_fit = scorer is not None and scorer.kind == "embedding_head"
    if needs_fit and fit is None:
        yield "judge.fit: expected a mapping, since kind embedding_head has a head to fit, got null; add it"
    if scorer is not None and not needs_fit and fit is not None:
        yield f"judge.fit: expected null, since a scorer of kind {scorer.kind} is pinned, not fitted; write null"
    if fit is None:
        return
    if fit.held_out_source not in fit.negatives:
        sources = shortened(", ".join(sorted(fit.negatives)), 500)
        yield f"judge.fit.held_out_source: expected one of {sources}; name one of them"
    if fit.window_words[0] > fit.window_words[1]:
        yield "judge.fit.window_words: expected [shortest, longest]; correct the order"


def _ppo(file: ExperimentFile) -> Iterator[str]:
    rollout = file.ppo.prompts_per_step * file.ppo.samples_per_prompt
    if rollout % file.ppo.minibatch_size:
        expected = f"expected a divisor of the rollout ({rollout} completions), got {file.ppo.minibatch_size}"
        yield f"ppo.minibatch_size: {expected}; correct one of them"


def _complete(file: ExperimentFile) -> Iterator[str]:
    complete = file.complete
    if complete.analyzed_samples > complete.samples_per_prompt:
        yield "complete.analyzed_samples: expected at most complete.samples_per_prompt; lower it"
    if complete.rtp_protocol:
        protocol = {"samples_per_prompt": 25, "max_new_tokens": 20, "temperature": 1.0, "top_p": 0.9}
        for key, value in protocol.items():
            if getattr(complete, key) != value:
                got = getattr(complete, key)
                yield f"complete.{key}: complete.rtp_protocol needs {value}, got {got}; correct one of them"


def _evaluate(file: ExperimentFile) -> Iterator[str]:
    for name, baseline in file.evaluate.baselines.items():
        if baseline.scorer not in file.score.judges:
            judges = shortened(", ".join(file.score.judges), 500)
            found = f"got {shown(baseline.scorer)}; name one of them"
            yield f"evaluate.baselines.{name}.scorer: expected one of score.judges ({judges}), {found}"
    known = {*GUARDED, *(f"{task}_agreement" for task in file.probe.tasks)}
    known |= set(RATES) if file.refusal is not None else set()
    known |= {f"{name}_accuracy" for name, task in file.probe.tasks.items() if task.layout == "options"}
    if file.judge.fit is not None and file.judge.fit.threshold != file.evaluate.threshold:
        yield (
            "judge.fit.threshold: expected evaluate.threshold, at which the judges' error rates are corrected for; "
            "correct one of them"
        )
    for name, guard in file.evaluate.guards.items():
        if name not in known:
            yield f"evaluate.guards.{shortened(name)}: expected one of {', '.join(sorted(known))}; correct its name"
        share = name.endswith(("_accuracy", "_agreement")) or name in RATES
        if share and guard.change == "relative" or name == "identity_perplexity" and guard.change == "absolute":
            expected = "absolute" if share else "relative"
            yield f"evaluate.guards.{name}.change: expected {expected}, got {guard.change}; correct it"
        if guard.min is None and guard.max is None:
            yield f"evaluate.guards.{name}: expected a bound, got null for min and max; set one or remove it"
        elif guard.min is not None and guard.max is not None and guard.min > guard.max:
            yield f"evaluate.guards.{name}: expected min below max; correct one of them"


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
