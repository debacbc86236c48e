"""Rules that need more than one key of an experiment file; those of a method or data set stand with it."""

from collections.abc import Iterator
from typing import Any

from pipeline.config.declarations import DataSet, Rooms
from pipeline.config.sections import AdapterReference, DatasetPreferences, ExperimentFile
from pipeline.io.errors import shortened, shown


def contradictions(file: ExperimentFile, rooms: Rooms) -> Iterator[str]:
    """Yield one `key: what is wrong, what was expected` line for every contradiction between keys."""
    dataset = rooms.datasets[file.data.dataset]
    yield from _model(file, dataset)
    yield from dataset.rules(file)
    yield from _identity(file)
    yield from _scorers(file, rooms)
    yield from _judge(file, rooms)
    for name in file.methods:
        yield from rooms.methods[name].rules(file)
    yield from _complete(file)
    yield from _evaluate(file, rooms)
    yield from _preferences(file, dataset)


def _model(file: ExperimentFile, dataset: DataSet) -> Iterator[str]:
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
    if reference.kind != "base" and not dataset.demonstrates:
        yield (
            f"reference.kind: expected base, since {dataset.name} has no demonstrations to train on, "
            f"got {reference.kind}; correct it"
        )
    if model.architecture == "seq2seq" and file.fluency.kind == "base":
        yield (
            "fluency.kind: expected causal_lm, since an encoder-decoder model has no likelihood of a text alone, "
            "got base; correct it"
        )


def _identity(file: ExperimentFile) -> Iterator[str]:
    for key in ("terms", "templates"):
        values = getattr(file.identity, key)
        if len(set(values)) != len(values):
            yield f"identity.{key}: expected every one once; remove the second of each"


def _scorers(file: ExperimentFile, rooms: Rooms) -> Iterator[str]:
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
        if rooms.scorers[scorer.kind].is_fitted and name != file.judge.scorer:
            yield f"scorers.{name}: kind {scorer.kind} is for the held-out judge alone, which `judge` fits; remove it"
    kind = rooms.scorers[file.reward.scorer.kind]
    if file.reward.output != "toxicity" and not kind.has_logits:
        yield (
            f"reward.output: expected toxicity, since a scorer of kind {file.reward.scorer.kind} has no logits, "
            f"got {file.reward.output}; correct it"
        )
    yield from _held_out(file, rooms)
    if kind.is_fitted:
        yield f"reward.scorer.kind: {kind.kind} is for the held-out judge alone, which `judge` fits; name another"
    if judges[0] != file.judge.scorer:
        yield f"score.judges[0]: expected the held-out judge {file.judge.scorer!r} as primary judge; put it first"


def _held_out(file: ExperimentFile, rooms: Rooms) -> Iterator[str]:
    """Yield where the held-out judge rewards under another name, whatever its other settings are."""

    def weights(scorer: Any) -> object:
        return rooms.scorers[scorer.kind].weights(scorer)

    held_out, reward = file.scorers.get(file.judge.scorer), file.reward.scorer
    rewarding: dict[str, Any] = {"reward.scorer": reward}
    if members := rooms.scorers[reward.kind].members(reward):
        rewarding = {f"reward.scorer.members.{name}": scorer for name, scorer in members.items()}
        found = [weights(scorer) for scorer in rewarding.values()]
        if any(found.count(one) > 1 for one in found):
            yield "reward.scorer.members: expected every scorer once; remove the second of each"
    for key, scorer in rewarding.items():
        if held_out is not None and weights(scorer) == weights(held_out):
            yield f"{key}: this is the held-out judge {file.judge.scorer!r}, which may not reward; name another"


def _judge(file: ExperimentFile, rooms: Rooms) -> Iterator[str]:
    scorer = file.scorers.get(file.judge.scorer)
    fit = file.judge.fit
    needs_fit = scorer is not None and rooms.scorers[scorer.kind].is_fitted
    if scorer is not None and needs_fit and fit is None:
        yield f"judge.fit: expected a mapping, since kind {scorer.kind} has a head to fit, got null; add it"
    if scorer is not None and not needs_fit and fit is not None:
        yield f"judge.fit: expected null, since a scorer of kind {scorer.kind} is pinned, not fitted; write null"
    if fit is None:
        return
    if fit.held_out_source not in fit.negatives:
        sources = shortened(", ".join(sorted(fit.negatives)), 500)
        yield f"judge.fit.held_out_source: expected one of {sources}; name one of them"
    if fit.window_words[0] > fit.window_words[1]:
        yield "judge.fit.window_words: expected [shortest, longest]; correct the order"


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


def _evaluate(file: ExperimentFile, rooms: Rooms) -> Iterator[str]:
    for name, baseline in file.evaluate.baselines.items():
        if baseline.scorer not in file.score.judges:
            judges = shortened(", ".join(file.score.judges), 500)
            found = f"got {shown(baseline.scorer)}; name one of them"
            yield f"evaluate.baselines.{name}.scorer: expected one of score.judges ({judges}), {found}"
    known = {name: metric.change for metric in rooms.metrics.values() for name in metric.guards(file)}
    if file.judge.fit is not None and file.judge.fit.threshold != file.evaluate.threshold:
        yield (
            "judge.fit.threshold: expected evaluate.threshold, at which the judges' error rates are corrected for; "
            "correct one of them"
        )
    for name, guard in file.evaluate.guards.items():
        if name not in known:
            yield f"evaluate.guards.{shortened(name)}: expected one of {', '.join(sorted(known))}; correct its name"
        expected = known.get(name)
        if expected is not None and guard.change != expected:
            yield f"evaluate.guards.{name}.change: expected {expected}, got {guard.change}; correct it"
        if guard.min is None and guard.max is None:
            yield f"evaluate.guards.{name}: expected a bound, got null for min and max; set one or remove it"
        elif guard.min is not None and guard.max is not None and guard.min > guard.max:
            yield f"evaluate.guards.{name}: expected min below max; correct one of them"


def _preferences(file: ExperimentFile, dataset: DataSet) -> Iterator[str]:
    if not isinstance(file.preferences, DatasetPreferences):
        return
    if not dataset.has_pairs(file.data):
        yield (
            "preferences.kind: expected on_policy, since `data` has no pairs (data.pairs of dataset chat, or rows of "
            "dataset jsonl), got dataset; correct one of them"
        )
    if file.refusal is None:
        yield (
            "refusal: expected a judge of refusals, without which the polarity of preferences.kind dataset cannot be "
            "checked, got null; add it"
        )
