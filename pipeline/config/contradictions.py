"""Checks that need more than one key of an experiment file."""

from collections.abc import Iterator

from pipeline.config.sections import ExperimentFile

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
    "rouge_l",
)


def contradictions(file: ExperimentFile) -> Iterator[str]:
    """Yield one `key: what is wrong, what was expected` line for every contradiction between keys."""
    yield from _data(file)
    yield from _scorers(file)
    yield from _judge(file)
    yield from _ppo(file)
    yield from _complete(file)
    yield from _evaluate(file)


def _data(file: ExperimentFile) -> Iterator[str]:
    if file.data.eval_fraction + file.data.dev_fraction >= 1:
        yield "data.eval_fraction: expected less than 1 together with data.dev_fraction; the rest is the train split"


def _scorers(file: ExperimentFile) -> Iterator[str]:
    judges, reward = file.score.judges, file.reward.name
    known = {reward, *file.scorers}
    used = {f"score.judges[{index}]": name for index, name in enumerate(judges)}
    used |= {"judge.scorer": file.judge.scorer}
    for key, name in used.items():
        if name not in known:
            yield f"{key}: expected one of the scorers {', '.join(sorted(known))}, got {name!r}"
    if reward in file.scorers:
        yield f"scorers.{reward}: this name is the reward scorer's (reward.name); give one of them another"
    if set(judges) <= {reward}:
        yield f"score.judges: the reward scorer {reward!r} may not be the only judge; add a held-out one"
    if len(set(judges)) != len(judges):
        yield "score.judges: expected every judge once"
    if file.judge.scorer == reward:
        yield f"judge.scorer: the held-out judge may not be the reward scorer {reward!r}"
    for name, scorer in sorted(file.scorers.items()):
        if scorer == file.reward.scorer:
            yield f"scorers.{name}: this is the reward scorer {reward!r} under another name; a judge must be another"
        if scorer.kind == "embedding_head" and name != file.judge.scorer:
            yield f"scorers.{name}: kind embedding_head is for the held-out judge alone, whose head `judge` fits"
    if file.reward.scorer.kind == "embedding_head":
        yield "reward.scorer.kind: embedding_head is for the held-out judge alone, whose head `judge` fits"
    if judges[0] != file.judge.scorer:
        yield f"score.judges[0]: expected the held-out judge {file.judge.scorer!r} as primary judge"


def _judge(file: ExperimentFile) -> Iterator[str]:
    scorer = file.scorers.get(file.judge.scorer)
    fit = file.judge.fit
    needs_fit = scorer is not None and scorer.kind == "embedding_head"
    if needs_fit and fit is None:
        yield "judge.fit: expected a mapping, since a scorer of kind embedding_head has a head to fit; got null"
    if scorer is not None and not needs_fit and fit is not None:
        yield f"judge.fit: expected null, since a scorer of kind {scorer.kind} is pinned, not fitted"
    if fit is None:
        return
    if fit.held_out_source not in fit.negatives:
        yield f"judge.fit.held_out_source: expected one of {', '.join(sorted(fit.negatives))}"
    if fit.window_words[0] > fit.window_words[1]:
        yield "judge.fit.window_words: expected [shortest, longest]"
    if fit.excluded_dataset != file.data.dataset:
        yield f"judge.fit.excluded_dataset: expected data.dataset ({file.data.dataset}), or the judge sees its prompts"


def _ppo(file: ExperimentFile) -> Iterator[str]:
    rollout = file.ppo.prompts_per_step * file.ppo.samples_per_prompt
    if rollout % file.ppo.minibatch_size:
        size = file.ppo.minibatch_size
        yield f"ppo.minibatch_size: expected a divisor of the rollout ({rollout} completions), got {size}"


def _complete(file: ExperimentFile) -> Iterator[str]:
    complete = file.complete
    if complete.analyzed_samples > complete.samples_per_prompt:
        yield "complete.analyzed_samples: expected at most complete.samples_per_prompt"
    if complete.rtp_protocol:
        protocol = {"samples_per_prompt": 25, "max_new_tokens": 20, "temperature": 1.0, "top_p": 0.9}
        for key, value in protocol.items():
            if getattr(complete, key) != value:
                yield f"complete.{key}: complete.rtp_protocol needs {value}, got {getattr(complete, key)}"


def _evaluate(file: ExperimentFile) -> Iterator[str]:
    for name, baseline in file.evaluate.baselines.items():
        if baseline.scorer not in file.score.judges:
            judges = ", ".join(file.score.judges)
            yield f"evaluate.baselines.{name}.scorer: expected one of score.judges ({judges}), got {baseline.scorer!r}"
    known = {*GUARDED, *(f"{task}_agreement" for task in file.probe.tasks)}
    known |= {f"{name}_accuracy" for name, task in file.probe.tasks.items() if task.layout == "options"}
    if file.judge.fit is not None and file.judge.fit.threshold != file.evaluate.threshold:
        yield "judge.fit.threshold: expected evaluate.threshold, at which the judges' error rates are corrected for"
    for name, guard in file.evaluate.guards.items():
        if name not in known:
            yield f"evaluate.guards.{name}: expected one of {', '.join(sorted(known))}"
        share = name.endswith(("_accuracy", "_agreement"))
        if share and guard.change == "relative" or name == "identity_perplexity" and guard.change == "absolute":
            yield f"evaluate.guards.{name}.change: expected {'absolute' if share else 'relative'}, got {guard.change}"
        if guard.min is None and guard.max is None:
            yield f"evaluate.guards.{name}: expected a bound, got null for min and max; set one or remove it"
        elif guard.min is not None and guard.max is not None and guard.min > guard.max:
            yield f"evaluate.guards.{name}: expected min below max"
