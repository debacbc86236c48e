"""Read parameter files strictly: every error at once, each with its file, key and what was expected."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.config.declarations import rooms
from pipeline.config.fields import NAME_PATTERN
from pipeline.config.plain_yaml import read_yaml
from pipeline.config.rules import contradictions
from pipeline.config.schema import experiment_file
from pipeline.config.sections import ExperimentFile
from pipeline.io import paths
from pipeline.io.errors import UserError, shortened, shown

MOST_PROBLEMS = 20  # told at once
UNKNOWN_KINDS = ("union_tag_invalid", "union_tag_not_found")  # pydantic's words

Model = TypeVar("Model", bound=BaseModel)


class Settings:
    """The sections a stage declared, as attributes; reading another section is a programming error."""

    def __init__(self, file: ExperimentFile, sections: tuple[str, ...]) -> None:
        self._file = file
        self._sections = sections
        self._methods = {name.partition(".")[2] for name in sections if name.startswith("methods.")}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "methods" and self._methods:
            return {name: section for name, section in self._file.methods.items() if name in self._methods}
        if name not in self._sections:
            raise AttributeError(f"section {name!r} is not declared by this stage (declared: {self._sections})")
        return getattr(self._file, name)

    @property
    def whole(self) -> ExperimentFile:
        """Return all sections, for what changes no output, such as an estimate; a stage computes with declared ones."""
        return self._file

    def flattened(self) -> dict[str, Any]:
        """Return every value of the declared sections under its dotted key, for MLflow."""
        values: dict[str, Any] = {}
        for section in self._sections:
            name, _, method = section.partition(".")
            found = getattr(self._file, name)
            _flatten(section, found[method] if method else found, values)
        return values


def load(experiment: str, sections: tuple[str, ...]) -> Settings:
    """Load and check the whole of `experiments/<experiment>.yaml`; raise UserError listing every problem."""
    path = paths.experiment_file(experiment)
    if not re.fullmatch(NAME_PATTERN, experiment):
        raise UserError(
            f"{shortened(str(path))}: expected the name of an experiment, of a-z, 0-9, - and _ only, "
            f"got {shown(experiment)}; correct it or rename the file"
        )
    file = validated(path, experiment_file(rooms()))
    if problems := list(contradictions(file, rooms())):
        raise refusal(path, problems)
    return Settings(file, sections)


def validated(path: Path, model: type[Model], **replaced: Any) -> Model:
    """Return a YAML file as a model, with these top-level keys in the place of its own; raise UserError as `load`."""
    if not os.path.exists(path):
        raise UserError(f"{path}: not found; {_instead_of(path)}")
    raw = read_yaml(path)
    if isinstance(raw, dict):
        raw |= replaced
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise refusal(path, _described(error.errors(include_url=False), raw)) from None


def _instead_of(path: Path) -> str:
    known = sorted(file.stem for file in path.parent.glob("*.yaml"))
    if path == paths.roster_file() or not known:
        return f"run `git checkout {path}` or write it"
    return f"there are: {shortened(', '.join(known), 500)}; name one of them or write it"


def refusal(path: Path, problems: Sequence[str]) -> UserError:
    """Return the error with one line a problem; of a file that is wholly wrong it tells a part."""
    lines = [f"{path}: {problem}" for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"{path}: and {len(problems) - MOST_PROBLEMS} more; correct these first")
    return UserError("\n".join(lines))


def _described(errors: Iterable[Any], raw: Any) -> list[str]:
    """Return one `key: problem; remedy` line a key; the alternatives of a key that may be several things share one."""
    problems: dict[str, dict[str, str]] = {}
    for error in errors:
        problem, remedy = _problem(error)
        problems.setdefault(_key(error, raw), {}).setdefault(problem, remedy)
    return [f"{key}: {' or '.join(found)}; {next(iter(found.values()))}" for key, found in problems.items()]


def _key(error: Any, raw: Any) -> str:
    """Return the key as the file has it: pydantic adds the names of a union's alternatives, which are not keys."""
    key, value, loc = "", raw, error["loc"]
    for place, part in enumerate(loc):
        known = isinstance(value, dict) and part in value or isinstance(value, list) and isinstance(part, int)
        if known or (error["type"] == "missing" and place == len(loc) - 1):
            key += f"[{part}]" if isinstance(value, list) else f".{shortened(str(part))}"
            value = value[part] if known else None
    if error["type"] in UNKNOWN_KINDS:
        key += f".{_discriminator(error)}"
    return key.lstrip(".") or "(file)"


def _discriminator(error: Any) -> str:
    """Return the key that says which of several things a section is."""
    return str(error["ctx"]["discriminator"]).strip("'")


def _problem(error: Any) -> tuple[str, str]:
    """Return what is wrong and the remedy."""
    kind, given = error["type"], error["input"]
    if kind == "missing":
        return "missing; expected a value", "add it"
    if kind == "extra_forbidden" and error["loc"][:-1] == ("methods",):
        return "no such method", f"name one of {', '.join(rooms().methods)}"
    if kind == "extra_forbidden":
        return "unknown key", "remove it or correct its spelling"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"expected keys with values, got {'nothing' if given is None else shown(given)}", "correct it"
    if kind in UNKNOWN_KINDS:
        tag = _discriminator(error)
        expected = error["ctx"].get("expected_tags", f"a {tag}")
        return f"expected {expected}, got {shown(given[tag]) if tag in given else 'no such key'}", "correct it"
    message = shortened(error["msg"][0].lower() + error["msg"][1:], 300).removeprefix("value error, ")
    return f"{message}, got {shown(given)}", "correct it"


def _flatten(prefix: str, value: Any, values: dict[str, Any]) -> None:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{prefix}.{key}", item, values)
    else:
        values[prefix] = value
