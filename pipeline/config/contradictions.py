"""Checks that need more than one key of an experiment file."""

from collections.abc import Iterator

from pipeline.config.sections import ExperimentFile


def contradictions(file: ExperimentFile) -> Iterator[str]:
    """Yield one `key: what is wrong, what was expected` line for every contradiction between keys."""
    yield from _data(file)
    yield from _scorers(file)
    yield from _judge(file)
    yield from _ppo(file)
    yield from _complete(file)


def _data(file: ExperimentFile) -> Iterator[str]:
    if file.data.eval_fraction + file.data.dev_fraction >= 1:
        yield "data.eval_fraction: expected less than 1 together with data.dev_fraction; the rest is the train split"


def _scorers(file: ExperimentFile) -> Iterator[str]:
    known = ", ".join(sorted(file.scorers))
    used = {"reward.scorer": file.reward.scorer, "judge.scorer": file.judge.scorer}
    used |= {f"score.judges[{index}]": name for index, name in enumerate(file.score.judges)}
    for key, name in used.items():
        if name not in file.scorers:
            yield f"{key}: expected one of the scorers {known}, got {name!r}"
    if set(file.score.judges) <= {file.reward.scorer}:
        yield f"score.judges: the reward scorer {file.reward.scorer!r} may not be the only judge; add a held-out one"
    if len(set(file.score.judges)) != len(file.score.judges):
        yield "score.judges: expected every judge once"
    if file.judge.scorer == file.reward.scorer:
        yield f"judge.scorer: the held-out judge may not be the reward scorer {file.reward.scorer!r}"
    elif file.scorers.get(file.judge.scorer) == file.scorers.get(file.reward.scorer):
        yield f"judge.scorer: the held-out judge is the reward scorer {file.reward.scorer!r} under another name"
    for name in sorted({file.reward.scorer, *file.score.judges} - {file.judge.scorer}):
        if name in file.scorers and file.scorers[name].kind == "embedding_head":
            yield f"scorers.{name}: kind embedding_head is for the held-out judge alone, whose head `judge` fits"
    if file.score.judges[0] != file.judge.scorer:
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
