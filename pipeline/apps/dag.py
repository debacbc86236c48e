"""Write dvc.yaml from the stages: `python -m pipeline.apps.dag [--check]`.

A stage file declares its axes, sections, files and plots (`pipeline.apps.stage.Node`). What it imports, late imports
too, are the modules that it is rerun for: files, never a folder, or a new file in it would rerun what does not use it.
The four dicts load by name and are no import: a training is rerun for the one method that it trains with, whatever else
is listed; a stage that asks for scorers, data sets or metrics is rerun for all that are listed. Stages stand above the
library, so they are loaded by name here too.
"""

import argparse
import ast
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.apps import roster
from pipeline.apps.stage import Node, Place
from pipeline.config.declarations import rooms
from pipeline.io import atomic, paths
from pipeline.io.errors import UserError
from pipeline.methods import METHODS

FILE = Path("dvc.yaml")
VERSIONS = "env.json"
ORDER = ("download", "format", "judge", "reference", "preferences", "train", "complete", "score", "probe", "evaluate")
# Single modules that stages reach and are not rerun for, each group with the reason why they cannot change an output.
# What a module here imports is a dependency of a stage only where the stage reaches it otherwise too.
EXEMPT = {
    f"pipeline.{name}".rstrip("."): reason
    for reason, names in {
        "a docstring": ("", "io", "config", "apps"),
        "messages; a stage that raises one writes nothing": ("io.errors",),
        "names of files, with which dvc.yaml is written": ("io.paths",),
        "locks, signals, memory and threads of the process": ("io.process", "io.machine"),
        "accepts or refuses values that DVC tracks, and changes none (test_parameters.py)": (
            *("config.fields", "config.sections", "config.schema", "config.rules", "config.loader"),
            "config.plain_yaml",
        ),
        "reads params.yaml, of which DVC tracks what it takes": ("config.roster",),
        "a dict of names; what a stage uses of it is a dependency itself": ("methods", "scorers", "data"),
        "arguments and exit codes; what it hands on is in dvc.yaml as `cmd` and `params`": ("apps.stage",),
        "estimates before a stage, and messages": (
            *("apps.plan.checking", "apps.plan.memory", "apps.plan.shape", "apps.plan.work"),
        ),
        "writes to MLflow what is on disk": (
            *("tracking.address", "tracking.description", "tracking.execution", "tracking.landings"),
            *("tracking.model_card", "tracking.provenance", "tracking.recording", "tracking.registry"),
            *("tracking.runs", "tracking.store"),
        ),
        "shows what evaluate wrote, beside it; a report is no output": (
            *("apps.environment", "apps.table", "apps.report", "apps.report.before_after"),
            *("apps.report.charts", "apps.report.charts.comparisons", "apps.report.charts.cost"),
            *("apps.report.charts.judges", "apps.report.charts.panel", "apps.report.charts.refusals"),
            *("apps.report.charts.scores", "apps.report.charts.toxicity", "apps.report.charts.training"),
            *("apps.report.differences", "apps.report.figures", "apps.report.forest", "apps.report.guards"),
            *("apps.report.judges", "apps.report.latex", "apps.report.limits", "apps.report.material"),
            *("apps.report.numbers", "apps.report.offline", "apps.report.page", "apps.report.palette"),
            *("apps.report.provenance", "apps.report.refusals", "apps.report.roles", "apps.report.texts"),
            *("apps.report.verdict", "apps.report.writing"),
        ),
    }.items()
    for name in names
}
NAMED = {  # dict -> the modules that it names
    "pipeline.scorers.SCORERS": [f"pipeline.scorers.{name}" for name in rooms().scorers],
    "pipeline.data.DATASETS": [f"pipeline.data.{name}" for name in rooms().datasets],
    "pipeline.evaluation.metrics.METRICS": [f"pipeline.evaluation.metrics.{name}" for name in rooms().metrics],
}
POLICY = "pipeline.policy.loading"  # whoever loads the policy is rerun for the libraries' versions
HEADER = """\
# The DAG: one stage a file of stages/. Written by `make dag` from these files and the modules that they reach; not by
# hand. Experiments, seeds and what they come to are in params.yaml, each experiment's parameters in
# experiments/<name>.yaml. env.json holds the library versions that can change a training.
# `exec` replaces the shell that DVC starts, so that a stage's parent is DVC itself and the stage ends when DVC does.
stages:
"""


class Imports:
    """Which modules of pipeline/ and stages/ import which, read from the source: late imports count, and for types."""

    def __init__(self, root: Path = Path()) -> None:
        files = [path for top in ("pipeline", "stages") for path in sorted((root / top).rglob("*.py"))]
        self.files = {self._dotted(path.relative_to(root)): path.relative_to(root) for path in files}
        self.trees = {name: ast.parse((root / path).read_text(encoding="utf-8")) for name, path in self.files.items()}

    @cached_property
    def direct(self) -> dict[str, set[str]]:
        """Return every module with those that it imports."""
        return {module: self._imported(module) for module in self.files}

    def names(self, module: str) -> set[str]:
        """Return every dotted name that a module imports, `from a import b` as a.b."""
        found: set[str] = set()
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return found

    def reached(self, module: str, named: Mapping[str, Collection[str]], stop: Collection[str]) -> set[str]:
        """Return the modules with code that one reaches, itself too, not through those in `stop`.

        Who imports a dict of `named` reaches all that it names.
        """
        found: set[str] = set()
        todo = [module]
        while todo:
            current = todo.pop()
            if current in found:
                continue
            found.add(current)
            asked = self.names(current)
            todo += [name for dictionary, names in named.items() if dictionary in asked for name in names]
            todo += self.direct[current] - set(stop)
        return {name for name in found if self.has_code(name)}

    def has_code(self, module: str) -> bool:
        """Tell a module from a mere docstring."""
        return any(not isinstance(node, ast.Expr) for node in self.trees[module].body)

    def _imported(self, module: str) -> set[str]:
        found: set[str] = set()
        for name in self.names(module):
            parts = name.split(".")
            # importing a.b.c runs a and a.b as well; the last part may be a name inside a module
            found |= {prefix for end in range(1, len(parts) + 1) if (prefix := ".".join(parts[:end])) in self.files}
        return found - {module}

    @staticmethod
    def _dotted(path: Path) -> str:
        parts = path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def code_deps(imports: Imports, stage: str, method: str = "") -> list[str]:
    """Return the files that a stage is rerun for, sorted, the stage's own file first."""
    named: dict[str, Collection[str]] = {
        **NAMED,
        "pipeline.methods.METHODS": [f"pipeline.methods.{method}"] if method else [],
    }
    start = f"stages.{stage}"
    reached = imports.reached(start, named, EXEMPT.keys()) - {start, "stages"}
    versions = [VERSIONS] if POLICY in reached else []
    return [str(imports.files[start]), *versions, *sorted(str(imports.files[module]) for module in reached)]


def stages() -> list[tuple[str, Any]]:
    """Return the stage files as modules by name, in the order of the DAG."""
    names = sorted((path.stem for path in Path("stages").glob("[a-z]*.py")), key=_place)
    return [(name, import_module(f"stages.{name}")) for name in names]


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def dag() -> str:
    """Return the text of dvc.yaml."""
    imports = Imports()
    parts = []
    for name, module in stages():
        node: Node = module.NODE
        if "method" in node.axes:
            parts += [_stage(imports, name, module, method) for method in METHODS]
        else:
            parts.append(_stage(imports, name, module))
    return HEADER + "\n".join(parts)


def _stage(imports: Imports, name: str, module: Any, method: str = "") -> str:
    node: Node = module.NODE
    at = Place("${item.experiment}", "${item.seed}", method, "${item.policy}")
    sections = [section.format(method=method) for section in node.sections]
    axes = " ".join(method if axis == "method" else f"${{item.{axis}}}" for axis in node.axes)
    deps = [*code_deps(imports, name, method), *map(str, node.reads(at))]
    body = [f"cmd: exec python -m stages.{name} {axes}", *_list("deps", deps), "params:"]
    if node.roster:
        body += [f"  - {paths.roster_file()}:", *(f"      - {key}" for key in node.roster)]
    body += [f"  - {paths.experiment_file(at.experiment)}:", *(f"      - {section}" for section in sections)]
    body += _list("outs", map(str, node.outs(at)))
    body += _in_git("metrics", {path: {} for path in node.metrics(at)}) + _in_git("plots", node.plots(at))
    comment = METHODS[method].title if method else _first_sentence(module.__doc__)
    head = [f"  # {comment}", f"  {name}_{method}:" if method else f"  {name}:"]
    if "method" in node.axes or "policy" in node.axes:
        head += [f"    foreach: ${{trainings.{method}}}" if method else "    foreach: ${policies}", "    do:"]
        return "\n".join([*head, *(f"      {line}" for line in body)]) + "\n"
    matrix = ["matrix:", *(f"  {axis}: ${{{axis}s}}" for axis in node.axes)]
    return "\n".join([*head, *(f"    {line}" for line in [*matrix, *body])]) + "\n"


def _list(key: str, items: Iterable[str]) -> list[str]:
    found = [f"  - {item}" for item in items]
    return [f"{key}:", *found] if found else []


def _in_git(key: str, files: Mapping[Path, Mapping[str, str]]) -> list[str]:
    lines = []
    for path, drawn in files.items():
        lines += [f"  - {path}:", "      cache: false", *(f"      {name}: {value}" for name, value in drawn.items())]
    return [f"{key}:", *lines] if lines else []


def _first_sentence(doc: str | None) -> str:
    return (doc or "").split("\n\n")[0].replace("\n", " ").strip().rstrip(".")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write dvc.yaml and what params.yaml comes to; with `--check`, exit with code 2 where either would change."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.dag", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file would change")
    check = parser.parse_args(arguments).check
    try:
        text = dag()
        is_current = FILE.is_file() and FILE.read_text(encoding="utf-8") == text
        if check and not is_current:
            raise UserError(f"{FILE}: not what the stages and their imports make it; run `make dag`")
        roster.spell_out(check=check)
        if not is_current:
            with atomic.replacing(FILE) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except UserError as error:
        print(f"dag: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
