"""Write dvc.yaml from the stages: `python -m pipeline.apps.dag [--check]`.

A stage file declares its axes, sections, files and plots (`pipeline.apps.stage.Node`). What it imports, late imports
too, are the modules that it is rerun for, as single files, or as a room where it reaches all of it. The four dicts load
by name and are no import: a training is rerun for the one method that it trains with, whatever else is listed; a stage
that asks for scorers, data sets or metrics is rerun for all that are listed.
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
# Single modules that a stage reaches and is not rerun for, each with the reason why it cannot change an output. What
# only these import is exempt with them. What writes, rounds or hashes is not exempt.
EXEMPT = {
    "pipeline": "a docstring",
    "pipeline.io": "a docstring",
    "pipeline.io.errors": "messages; a stage that raises one writes nothing",
    "pipeline.io.paths": "names of files; dvc.yaml is written with them",
    "pipeline.io.process": "locks, signals and memory of the process",
    "pipeline.config": "a docstring",
    "pipeline.config.declarations": "names what the rooms declare; what is used of them is a dependency itself",
    "pipeline.config.fields": "accepts or refuses values that DVC tracks, and changes none (test_parameters.py)",
    "pipeline.config.sections": "likewise",
    "pipeline.config.loader": "likewise",
    "pipeline.config.roster": "reads params.yaml, of which DVC tracks what it takes",
    "pipeline.methods": "a dict of names; the method that is trained with is a dependency itself",
    "pipeline.scorers": "a dict of names; all that it names are dependencies themselves",
    "pipeline.data": "likewise",
    "pipeline.evaluation.metrics": "likewise",
    "pipeline.apps": "a docstring",
    "pipeline.apps.stage": "arguments and exit codes; what it hands on is in dvc.yaml as `cmd` and `params`",
    "pipeline.apps.report": "shows what evaluate wrote, beside it; a report is no output",
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

    def room(self, module: str) -> set[str]:
        """Return the modules with code of a package and of those in it."""
        return {name for name in self.files if f"{name}.".startswith(f"{module}.") and self.has_code(name)}

    def is_package(self, module: str) -> bool:
        """Tell whether a module is a folder's."""
        return self.files[module].name == "__init__.py"

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
    """Return the files and whole rooms that a stage is rerun for, sorted, the stage's own file first."""
    named: dict[str, Collection[str]] = {
        **NAMED,
        "pipeline.methods.METHODS": [f"pipeline.methods.{method}"] if method else [],
    }
    start = f"stages.{stage}"
    reached = imports.reached(start, named, EXEMPT.keys()) - {start, "stages"}
    deps: set[str] = set()
    for module in sorted(reached):
        room = next((room for room in _rooms_of(module, imports) if imports.room(room) <= reached), module)
        deps.add(str(imports.files[room].parent if room != module or imports.is_package(room) else imports.files[room]))
    deps = {dep for dep in deps if not any(dep.startswith(f"{other}/") for other in deps)}
    files = [VERSIONS] if POLICY in reached else []
    return [str(imports.files[start]), *files, *sorted(deps)]


def _rooms_of(module: str, imports: Imports) -> Iterable[str]:
    """Yield the packages around a module, the largest first, but not pipeline itself."""
    parts = module.split(".")
    for end in range(2, len(parts) + 1):
        if imports.is_package(room := ".".join(parts[:end])):
            yield room


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
    """Write dvc.yaml and what params.yaml comes to, or say with exit code 2 that dvc.yaml is not as it would be."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.dag", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where dvc.yaml would be another")
    check = parser.parse_args(arguments).check
    try:
        text = dag()
        if check:
            if not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
                raise UserError(f"{FILE}: not what the stages and their imports make it; run `make dag`")
            return
        with atomic.replacing(FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        roster.spell_out()
    except UserError as error:
        print(f"dag: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
