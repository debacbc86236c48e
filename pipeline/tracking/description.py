"""Tags, metrics, inputs and artifacts of one stage execution, read from disk."""

import csv
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.hashing import adapter_fingerprint, files_digest
from pipeline.io.records import read_json
from pipeline.tracking.execution import REFERENCE, Execution
from pipeline.tracking.provenance import Recorded, file_md5

History = dict[str, dict[int, float]]  # metric -> step -> value
MAX_PARAM_LENGTH = 6000  # MLflow's limit
# What a viewer may load without running code: a pickle is never logged.
ADAPTER_SUFFIXES = {".safetensors", ".json"}
# What of an evaluation belongs to no policy; the rest is shown in the run that made the policy (`judged.landings`).
OF_NO_POLICY = ("baselines", "comparisons", "agreement")
# Breakdowns of an evaluation and of judge cards: as metrics they would be hundreds of columns. They are in the file
# itself, which is an artifact, and in the report.
BREAKDOWNS = {"seeds", "categories", "emt_at_k", "at_k", "min", "max", "bins", "terms", "by_origin"}


@dataclass(frozen=True)
class Projection:
    """What one run holds beside its parameters."""

    execution: Execution
    tags: dict[str, str]
    metrics: History
    inputs: dict[str, str]  # path -> MD5, as in dvc.lock
    files: dict[str, list[Path]]  # artifact folder -> files
    report: Path | None = None  # the folder of an evaluation's report
    note: str = ""  # what on disk could not be shown, and the remedy


def describe(execution: Execution, record: Recorded | None = None) -> Projection:
    """Describe what an execution left on disk.

    `record` is its entry in dvc.lock, which knows the digests of inputs that are not on disk; None while the stage is
    running, when the entry is an older run's. Raises UserError where metrics or curves are absent or broken.
    """
    numbers = read_json(execution.metrics) if execution.metrics else {}
    curves = read_curves(execution.curves) if execution.curves else {}
    final = {name: {0: value} for name, value in shown_numbers(execution.stage, numbers).items()}
    # A final number never becomes a point of the curve of the same name.
    final = {f"final/{name}" if name in curves else name: points for name, points in final.items()}
    adapter = _adapter_digest(execution, numbers)
    files, note = _adapter_files(execution, adapter)
    report = None
    if execution.stage == "evaluate" and execution.metrics:
        files = {
            "metrics": [execution.metrics],
            "plots": sorted(paths.plot(execution.experiment, "evaluation").parent.glob("*.csv")),
        }
        report, note = _report(paths.report(execution.experiment), execution.metrics)
    tags = {"fingerprint": files_digest(Path(), execution.results)} if execution.results else {}
    if adapter:
        tags["adapter.fingerprint"] = adapter
    if verdict := numbers.get("lint", {}).get("verdict"):  # of preferences that are a data set's
        tags |= {"polarity": numbers["polarity"], "polarity.lint": verdict}
        tags |= {"polarity.override": numbers["polarity_override"]} if numbers["polarity_override"] else {}
    return Projection(execution, tags, final | curves, _input_digests(execution, record), files, report, note)


def shown_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow takes them, the same text for a value from YAML, dvc.lock or a typed section.

    Texts stay as they are and all else becomes JSON, 2.0 as 2. A value that is too long ends in its SHA-256.
    """
    shown = {}
    for name, value in params.items():
        text = value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
        if len(text) > MAX_PARAM_LENGTH:
            tail = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
            text = text[: MAX_PARAM_LENGTH - len(tail)] + tail
        shown[_accepted(name)] = text
    return shown


def _accepted(name: str) -> str:
    """Return a name of a param or metric with the letters and shape that MLflow accepts."""
    return posixpath.normpath(re.sub(r"[^\w\-./: ]", "_", name))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def missing_results(execution: Execution) -> list[Path]:
    """Return the files or folders without which an execution cannot be described."""
    expected = execution.results or [path for path in (execution.adapter,) if path]
    return [path for path in expected if not path.exists()]


def read_curves(path: Path) -> History:
    """Read a CSV with a column `step`; an empty cell is a missing value."""
    curves: History = {}
    reader = None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                step = int(row.pop("step"))
                for name, cell in row.items():
                    if cell:
                        curves.setdefault(name, {})[step] = float(cell)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro` (or `git checkout {path}`) to make it") from None
    except (KeyError, TypeError, ValueError) as error:
        line = reader.line_num if reader else 1
        raise UserError(f"{path}:{line}: expected a column `step` and numbers, got {error!r}") from None
    return curves


def shown_numbers(stage: str, numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a stage's metrics file that its own run shows as metrics."""
    if stage == "evaluate":
        numbers = {key: numbers[key] for key in OF_NO_POLICY if key in numbers}
    return numeric_leaves(pruned(numbers) if stage in ("evaluate", "judge") else numbers)


def pruned(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping without the keys of `BREAKDOWNS`, at any depth."""
    kept = {key: item for key, item in value.items() if key not in BREAKDOWNS}
    return {key: pruned(item) if isinstance(item, Mapping) else item for key, item in kept.items()}


def numeric_leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return every number of a nested mapping under its slash-joined keys; texts, lists and missing values are none."""
    leaves: dict[str, float] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            leaves |= numeric_leaves(item, f"{prefix}{key}/")
        elif isinstance(item, int | float) and not isinstance(item, bool):
            leaves[_accepted(f"{prefix}{key}")] = float(item)
    return leaves


def _adapter_digest(execution: Execution, numbers: Mapping[str, Any]) -> str | None:
    """Return the digest of the adapter that an execution wrote or used, where it is known."""
    if execution.seed is None or not execution.method:
        return None
    source = paths.metrics(execution.experiment, execution.method, execution.seed)
    if not numbers:
        numbers = read_json(source) if source.exists() else {"adapter_sha256": None}
    if execution.method == REFERENCE and not numbers.get("adapter_sha256"):  # nothing was trained
        folder = paths.adapter(execution.experiment, execution.seed, REFERENCE)
        return adapter_fingerprint(folder) if folder.exists() else None
    if "adapter_sha256" not in numbers:
        raise UserError(f"{source}: adapter_sha256: missing; run `dvc repro` to write it")
    digest: str | None = numbers["adapter_sha256"]
    return digest


def _adapter_files(execution: Execution, digest: str | None) -> tuple[dict[str, list[Path]], str]:
    folder = execution.adapter
    if folder is None or not folder.exists():
        return {}, f"{folder} is not on disk: `dvc pull`" if folder else ""
    if adapter_fingerprint(folder) != digest:
        return {}, f"{folder} is not the adapter of {execution.metrics}: `dvc checkout`"
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in ADAPTER_SUFFIXES and path.is_file():
            files.setdefault((Path("adapter") / path.parent.relative_to(folder)).as_posix(), []).append(path)
    return files, ""


def _report(folder: Path, evaluation: Path) -> tuple[Path | None, str]:
    """Return the folder of the report, which is in neither DVC nor Git, unless it tells of an earlier evaluation."""
    page = folder / "index.html"
    if not page.exists():
        return None, ""
    if page.stat().st_mtime_ns < evaluation.stat().st_mtime_ns:
        return None, f"{page} is older than {evaluation}: `make report`"
    return folder, ""


def _input_digests(execution: Execution, record: Recorded | None) -> dict[str, str]:
    known = record.md5 if record else {}
    digests = {str(path): known.get(str(path)) or _md5_on_disk(path) for path in execution.inputs}
    return {name: digest for name, digest in digests.items() if digest}


def _md5_on_disk(path: Path) -> str | None:
    return file_md5(path) if path.exists() else None
