"""Rough hours, from what was measured: SmolLM2-135M in float32 on two cores of a cloud machine (x86-64, AVX-512).

Time is proportional to the model's parameters (2 operations a parameter and token, Kaplan et al. 2020, 2.1), so that
the figures hold for models whose arithmetic outweighs the rest. No GPU was measured: there nothing is said.
"""

from pipeline.config.sections import ExperimentFile, OnPolicyPreferences
from pipeline.plan.lengths import lengths

MEASURED_PARAMETERS = 134_515_008
# Tokens a second: read without gradient, learnt from (forward and backward pass), drawn one after the other.
READ, LEARNT, DRAWN = 720, 245, 230


def hours(stage: str, experiment: str, file: ExperimentFile, parameters: int) -> float | None:
    """Return about how many hours a stage takes on two cores of a CPU; None where nobody knows how much there is to do.

    That is so before `format` has run, for all stages but train_ppo, whose number of completions is a parameter.
    """
    tokens = _tokens(stage, experiment, file)
    if tokens is None:
        return None
    seconds = tokens[0] / READ + tokens[1] / LEARNT + tokens[2] / DRAWN
    return seconds * parameters / MEASURED_PARAMETERS / 3600


def _tokens(stage: str, experiment: str, file: ExperimentFile) -> tuple[float, float, float] | None:
    """Return tokens read, learnt from and drawn."""
    split = {"reference": "dev", "complete": "eval"}.get(stage, "train")
    prompts = lengths(experiment, split, file.model)
    if stage == "train_ppo":
        ppo = file.ppo
        drawn = ppo.steps * ppo.prompts_per_step * ppo.samples_per_prompt
        whole = drawn * (prompts.mean + ppo.max_new_tokens)
        return whole, whole * ppo.epochs, drawn * ppo.max_new_tokens
    if prompts.count is None:
        return None
    if stage == "complete":
        complete = file.complete
        drawn = prompts.count * complete.samples_per_prompt
        analyzed = 2 * prompts.count * complete.analyzed_samples * (prompts.mean + complete.max_new_tokens)
        return analyzed, 0, drawn * complete.max_new_tokens
    preferences = file.preferences
    if stage not in ("preferences", "train_sft", "train_dpo"):
        return None
    if isinstance(preferences, OnPolicyPreferences):
        new = float(preferences.max_new_tokens)
        if stage == "preferences":
            return prompts.count * prompts.mean, 0, prompts.count * preferences.samples_per_prompt * new
    else:
        new = preferences.max_completion_tokens / 2  # nobody has read the answers yet
        if stage == "preferences":
            return None  # its time is the scorer's
    # As many pairs as prompts, which is the most there can be; DPO reads a prompt once for both completions.
    if stage == "train_sft":
        return 0, prompts.count * file.sft.epochs * (prompts.mean + new), 0
    return prompts.count * (prompts.mean + 2 * new), prompts.count * file.dpo.epochs * (prompts.mean + 2 * new), 0
