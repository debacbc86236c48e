"""What belongs to one stage execution: its place in the DAG, the files it reads and writes, its run's name."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.roster import Roster
from pipeline.io import paths
from pipeline.methods import METHODS

TRAININGS = {f"train_{method}": method for method in METHODS}
REFERENCE = "reference"
# What a run's description begins with; `{policy}` is filled in.
SENTENCES = {
    "download": "Model, data and scorers from pinned sources, every file checked by its hash",
    "format": "Raw rows to one schema, split by content into train, dev and eval prompts",
    "judge": "A card for every judge: how well it tells toxic from harmless text",
    "reference": "The policy that every training starts from and is compared to",
    "preferences": "Chosen and rejected completions for SFT and DPO, ranked by the reward scorer",
    **{f"train_{method}": declared.title for method, declared in METHODS.items()},
    "complete": "Completions of the evaluation prompts by the policy {policy}",
    "score": "Every judge's score of the completions of the policy {policy}",
    "probe": "What the policy {policy} still knows, by likelihoods alone",
    "evaluate": "The comparison of all policies: toxicity with intervals, guards, verdicts and the champion",
}


@dataclass(frozen=True)
class Execution:
    """One stage at one place of the DAG's axes."""

    stage: str
    experiment: str
    seed: int | None = None
    policy: str | None = None

    @property
    def method(self) -> str | None:
        """Return the policy that it trains or uses, None where it uses none."""
        return TRAININGS.get(self.stage) or (REFERENCE if self.stage == REFERENCE else self.policy)

    @property
    def run_name(self) -> str:
        """Return the method of a training, else the stage with the policy it used; seeds other than 0 are named.

        The name depends on nothing but the execution, so that a run has the same one when it is rebuilt.
        """
        name = TRAININGS.get(self.stage) or "-".join(filter(None, (self.stage, self.policy)))
        return f"{name}-seed-{self.seed}" if self.seed else name

    @property
    def sentence(self) -> str:
        """Return in one sentence what it does, for whoever reads the run."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{SENTENCES[self.stage].format(policy=self.policy)} ({self.experiment}{seed})."

    @property
    def lock_entry(self) -> str:
        """Return the name of its entry in dvc.lock."""
        axes = (self.experiment, self.seed, self.policy)
        return f"{self.stage}@" + "-".join(str(axis) for axis in axes if axis is not None)

    @property
    def metrics(self) -> Path | None:
        """Return the metrics JSON that it writes, None for a stage without one."""
        if self.stage == "evaluate":
            return paths.metrics(self.experiment, "evaluation")
        if self.stage in (*TRAININGS, REFERENCE, "format", "judge", "preferences"):
            return paths.metrics(self.experiment, TRAININGS.get(self.stage, self.stage), self.seed)
        return None

    @property
    def curves(self) -> Path | None:
        """Return the CSV of training curves that it writes, None for a stage that trains nothing.

        That of a reference stands in its folder, which says whether there was a training.
        """
        if self.stage in TRAININGS and self.seed is not None:
            return paths.curves(self.experiment, self.seed, TRAININGS[self.stage])
        if self.stage == REFERENCE and self.seed is not None:
            path = paths.reference_curves(self.experiment, self.seed)
            return path if path.exists() else None
        return None

    @property
    def adapter(self) -> Path | None:
        """Return the adapter folder that it writes, None for a stage that writes none."""
        if self.stage in (*TRAININGS, REFERENCE) and self.seed is not None and self.method:
            return paths.adapter(self.experiment, self.seed, self.method)
        return None

    @property
    def inputs(self) -> list[Path]:
        """Return the data sets that it reads."""
        train, dev, judged = (paths.formatted(self.experiment, split) for split in ("train", "dev", "eval"))
        if self.seed is None:
            return []
        if self.stage == "score" and self.policy:
            return [paths.completions(self.experiment, self.seed, self.policy)]
        if self.stage in TRAININGS:
            samples = paths.preferences(self.experiment, self.seed)
            return [train, dev] if METHODS[TRAININGS[self.stage]].inputs == "prompts" else [dev, samples]
        by_stage = {
            "reference": [train, paths.formatted(self.experiment, "demonstrations"), dev],
            "preferences": [train],
            "complete": [judged],
        }
        return by_stage.get(self.stage, [])

    @property
    def results(self) -> list[Path]:
        """Return the files that identify what it wrote: those in Git where there are such files, else its outputs.

        The metrics of a training hold its adapter's digest, so a clone without adapters finds the same run. Empty for
        `download`, whose sources are pinned by hash, and for a reference that is not on disk.
        """
        in_git = [path for path in (self.metrics, None if self.stage == REFERENCE else self.curves) if path]
        if in_git:
            return in_git
        if self.adapter:
            return sorted(path for path in self.adapter.rglob("*") if path.is_file())
        places = {"complete": paths.completions, "probe": paths.probes, "score": paths.scores}
        if self.stage in places and self.seed is not None and self.policy:
            return [places[self.stage](self.experiment, self.seed, self.policy)]
        return []


def training(experiment: str, seed: int, policy: str) -> Execution:
    """Return the execution that made a policy: its training, or `reference`."""
    stages = {method: stage for stage, method in TRAININGS.items()}
    return Execution(stages.get(policy, REFERENCE), experiment, seed)


def executions(experiment: str, roster: Roster) -> list[Execution]:
    """Return the roster's executions that leave metrics or an adapter, in the order of the DAG."""
    listed = [Execution("format", experiment), Execution("judge", experiment)]
    for seed in roster.seeds:
        listed.append(training(experiment, seed, REFERENCE))
        listed.append(Execution("preferences", experiment, seed))
        listed += [
            training(experiment, seed, policy) for policy in roster.policies_of(experiment) if policy != REFERENCE
        ]
    return [*listed, Execution("evaluate", experiment)]
