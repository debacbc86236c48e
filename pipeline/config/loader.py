"""Read parameter files strictly: every error at once, each with its file, key and what was expected."""

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from pipeline import paths
from pipeline.config.contradictions import contradictions
from pipeline.config.sections import NAME_PATTERN, ExperimentFile, Name, Section, Seed
from pipeline.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


class Roster(Section):
    """What plain `dvc repro` builds: every experiment x seed x policy."""

    experiments: Annotated[list[Name], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    policies: Annotated[list[Literal["reference", "sft", "ppo", "dpo"]], Field(min_length=1)]


class Settings:
    """The sections a stage declared, as attributes; reading another section is a programming error."""

    def __init__(self, file: ExperimentFile, sections: tuple[str, ...]) -> None:
        self._file = file
        self._sections = sections

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._sections:
            raise AttributeError(f"section {name!r} is not declared by this stage (declared: {self._sections})")
        return getattr(self._file, name)

    def flattened(self) -> dict[str, Any]:
        """Return every value of the declared sections under its dotted key, for MLflow."""
        values: dict[str, Any] = {}
        for section in self._sections:
            _flatten(section, getattr(self._file, section), values)
        return values


def load(experiment: str, sections: tuple[str, ...]) -> Settings:
    """Load and check the whole of `experiments/<experiment>.yaml`; raise UserError listing every problem."""
    path = paths.experiment_file(experiment)
    if not re.fullmatch(NAME_PATTERN, experiment):
        raise UserError(f"{path}: expected a name of a-z, 0-9, - and _ only, got {experiment!r}; rename the file")
    file = _validated(path, ExperimentFile)
    problems = list(contradictions(file))
    if problems:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    return Settings(file, sections)


def load_roster() -> Roster:
    """Load and check `params.yaml`; raise UserError listing every problem."""
    roster = _validated(paths.roster_file(), Roster)
    doubled = [key for key, values in roster if len(set(values)) != len(values)]
    if doubled:
        raise UserError("\n".join(f"{paths.roster_file()}: {key}: expected every entry once" for key in doubled))
    if "reference" not in roster.policies:
        raise UserError(f"{paths.roster_file()}: policies: expected `reference`, which all others are compared to")
    return roster


def _validated(path: Path, model: type[Model]) -> Model:
    raw = _read_yaml(path)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in _described(error.errors(), raw))) from None


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise UserError(f"{path}: not found; there are: {known}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys in silence; we refuse the file."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "expected a plain key, found a list or mapping", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here a second time", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _described(errors: Iterable[Any], raw: Any) -> list[str]:
    """Return one `key: problem` line a key; the alternatives of a key that may be several things stand in one line."""
    problems: dict[str, list[str]] = {}
    for error in errors:
        problems.setdefault(_key(error, raw), []).append(_problem(error))
    return [f"{key}: {' or '.join(dict.fromkeys(found))}" for key, found in problems.items()]


def _key(error: Any, raw: Any) -> str:
    """Spell the key as it stands in the file: pydantic adds the names of a union's alternatives, which are no keys."""
    key, value, loc = "", raw, error["loc"]
    for place, part in enumerate(loc):
        known = isinstance(value, dict) and part in value or isinstance(value, list) and isinstance(part, int)
        if known or (error["type"] == "missing" and place == len(loc) - 1):
            key += f"[{part}]" if isinstance(part, int) else f".{part}"
            value = value[part] if known else None
    return key.lstrip(".") or "(file)"


def _problem(error: Any) -> str:
    if error["type"] == "missing":
        return "missing; expected a value"
    if error["type"] == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    message = error["msg"][0].lower() + error["msg"][1:]
    is_text = isinstance(error["input"], str) and error["type"] == "float_type"
    hint = " (YAML reads 2e-4 as text: write 2.0e-4)" if is_text else ""
    return f"{message}, got {error['input']!r}{hint}"


def _flatten(prefix: str, value: Any, values: dict[str, Any]) -> None:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{prefix}.{key}", item, values)
    else:
        values[prefix] = value
