"""The champion of an evaluation in MLflow's model registry: the adapter and its card, without a pickle.

The registered model has the name of the experiment, and its alias `champion` names the version that the evaluation on
disk chose. An adapter has one version for ever; a version whose evaluation changed gets a new card and new tags.
"""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io import paths
from pipeline.io.hashing import adapter_fingerprint, file_digest
from pipeline.io.records import read_json
from pipeline.tracking import address, model_card
from pipeline.tracking.description import ADAPTER_SUFFIXES
from pipeline.tracking.execution import Execution

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)

ALIAS = "champion"
DESCRIPTION = "LoRA adapters of the experiment {0}. The alias `champion` names the one that its evaluation chose."
ADAPTER_TAG, EVALUATION_TAG = "adapter.fingerprint", "evaluation.fingerprint"


@dataclass(frozen=True)
class Champion:
    """The policy that an evaluation chose, and what its version in the registry says of it."""

    experiment: str
    policy: str
    seed: int
    reason: str
    tags: dict[str, str]

    @property
    def folder(self) -> Path:
        """Return the adapter's folder."""
        return paths.adapter(self.experiment, self.seed, self.policy)


def show(
    client: "MlflowClient", uri: str, experiment_id: str, evaluated: Execution, made_by: Mapping[tuple[int, str], str]
) -> bool:
    """Let the alias `champion` name the policy that the evaluation on disk chose; return whether it does so only now.

    `made_by` is the run that made each policy, by seed and policy. Without a champion, and where the champion's
    adapter is neither registered nor on disk, the alias is removed: it would name a policy that was not chosen.
    """
    experiment = evaluated.experiment
    chosen = read_json(paths.metrics(experiment, "evaluation")).get("champion")
    if chosen is None:  # an evaluation from before there were champions
        return False
    if chosen["policy"] is None:
        _remove_alias(client, experiment, chosen["reason"])
        return False
    metrics = paths.metrics(experiment, chosen["policy"], chosen["seed"])
    if not metrics.exists():
        return _not_shown(client, experiment, f"{metrics} is not on disk: `git checkout {metrics}`")
    champion = _champion(experiment, chosen)
    version = _registered(client, champion)
    if version is None:
        if missing := _not_on_disk(champion):
            return _not_shown(client, experiment, missing)
        version = _register(client, uri, experiment_id, champion, made_by.get((champion.seed, champion.policy)))
    elif version.tags.get(EVALUATION_TAG) != champion.tags[EVALUATION_TAG]:
        _renew(client, version, champion)
    elif _aliased(client, champion.experiment) == str(version.version):
        return False
    client.set_registered_model_alias(champion.experiment, ALIAS, str(version.version))
    logger.info("tracking: champion of %s: %s, version %s", champion.experiment, champion.policy, version.version)
    return True


def _champion(experiment: str, chosen: Mapping[str, Any]) -> Champion:
    evaluation = paths.metrics(experiment, "evaluation")
    policy, seed = chosen["policy"], chosen["seed"]
    tags = {
        "policy": policy,
        "seed": str(seed),
        ADAPTER_TAG: read_json(paths.metrics(experiment, policy, seed))["adapter_sha256"],
        EVALUATION_TAG: file_digest(evaluation),
        "primary_judge": read_json(evaluation)["meta"]["primary_judge"],
        **model_card.origins(experiment),
    }
    return Champion(experiment, policy, seed, chosen["reason"], tags)


def _registered(client: "MlflowClient", champion: Champion) -> "ModelVersion | None":
    """Return the version that holds the champion's adapter, None where there is none."""
    found = client.search_model_versions(f"name = '{champion.experiment}'")
    return next((version for version in found if version.tags.get(ADAPTER_TAG) == champion.tags[ADAPTER_TAG]), None)


def _not_on_disk(champion: Champion) -> str:
    """Return why the champion cannot be registered, and the remedy; "" where its adapter is on disk."""
    if not champion.folder.exists():
        return f"{champion.folder} is not on disk: `dvc pull` and `make track`"
    if adapter_fingerprint(champion.folder) != champion.tags[ADAPTER_TAG]:
        return f"{champion.folder} is not the adapter that was evaluated: `dvc checkout` and `make track`"
    return ""


def _register(
    client: "MlflowClient", uri: str, experiment_id: str, champion: Champion, made_by: str | None
) -> "ModelVersion":
    """Log adapter and card as a model of the run that made it, and make that a version."""
    if not client.search_registered_models(f"name = '{champion.experiment}'"):
        client.create_registered_model(champion.experiment, description=DESCRIPTION.format(champion.experiment))
    model = client.create_logged_model(
        experiment_id, f"{champion.policy}-seed-{champion.seed}", made_by, champion.tags, model_type="lora-adapter"
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            client.log_model_artifacts(model.model_id, str(_laid_out(champion, Path(scratch) / "model")))
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    # The store looks a `models:/` source up in whatever store the process takes for its own.
    with address.environment({"MLFLOW_TRACKING_URI": uri}):
        return client.create_model_version(
            champion.experiment,
            f"models:/{model.model_id}",
            tags=champion.tags,
            description=champion.reason,
            model_id=model.model_id,
        )


def _laid_out(champion: Champion, folder: Path) -> Path:
    """Copy what may be loaded without running code, and write the card beside it."""
    for path in sorted(champion.folder.rglob("*")):
        if path.suffix in ADAPTER_SUFFIXES and path.is_file():
            target = folder / path.relative_to(champion.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    _write_card(champion, folder)
    return folder


def _write_card(champion: Champion, folder: Path) -> Path:
    path = folder / model_card.FILE
    path.write_text(model_card.adapter_card(champion.experiment, champion.seed, champion.policy), encoding="utf-8")
    return path


def _renew(client: "MlflowClient", version: "ModelVersion", champion: Champion) -> None:
    """Let card, tags and description of a version tell of the evaluation on disk."""
    model_id = str(version.source).removeprefix("models:/")
    with tempfile.TemporaryDirectory() as scratch:
        client.log_model_artifact(model_id, str(_write_card(champion, Path(scratch))))
    client.set_logged_model_tags(model_id, champion.tags)
    client.update_model_version(champion.experiment, str(version.version), champion.reason)
    for key, value in champion.tags.items():
        client.set_model_version_tag(champion.experiment, str(version.version), key, value)


def _aliased(client: "MlflowClient", experiment: str) -> str | None:
    """Return the version that the alias names, None where there is no such model or alias."""
    found = client.search_registered_models(f"name = '{experiment}'")
    version = found[0].aliases.get(ALIAS) if found else None
    return None if version is None else str(version)


def _not_shown(client: "MlflowClient", experiment: str, missing: str) -> bool:
    logger.warning("tracking: the champion of %s is not in the registry: %s", experiment, missing)
    _remove_alias(client, experiment, "the version that was one is not the champion of this evaluation")
    return False


def _remove_alias(client: "MlflowClient", experiment: str, reason: str) -> None:
    if _aliased(client, experiment) is not None:
        client.delete_registered_model_alias(experiment, ALIAS)
        logger.warning("tracking: %s has no champion in the registry any more: %s", experiment, reason)
