"""The schema of an experiment file, made of what is declared: a union of all data sets, of all scorers, all methods."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Union

from pydantic import AfterValidator, Field, create_model

from pipeline.config.declarations import Rooms
from pipeline.config.fields import Name, Section
from pipeline.config.sections import ExperimentFile, RewardSection


@cache
def experiment_file(rooms: Rooms) -> type[ExperimentFile]:
    """Return the class of the whole file; its `methods` is a mapping in the order in which methods are listed."""
    single = [kind.section for kind in rooms.scorers.values() if not _nests(kind.section)]
    scorers = [kind.section for kind in rooms.scorers.values()]
    for section in scorers:
        _complete(section, SingleScorer=_one_of(single, "kind"))
    scorer: Any = _one_of(scorers, "kind")
    return create_model(
        "ExperimentFile",
        __base__=ExperimentFile,
        data=(_one_of([dataset.section for dataset in rooms.datasets.values()], "dataset"), ...),
        scorers=(Annotated[dict[Name, scorer], Field(min_length=1)], ...),
        reward=(create_model("RewardSection", __base__=RewardSection, scorer=(scorer, ...)), ...),
        methods=(_methods({name: method.section for name, method in rooms.methods.items()}), ...),
    )


def _one_of(sections: list[type[Section]], key: str) -> Any:
    return Annotated[Union[tuple(sections)], Field(discriminator=key)]  # noqa: UP007 (made of a list)


def _methods(sections: Mapping[str, type[Section]]) -> Any:
    """Return the type of `methods`: any of them, each by its name once."""
    fields: dict[str, Any] = {name: (section, None) for name, section in sections.items()}
    given = create_model("MethodsSection", __base__=Section, **fields)

    def named(methods: Any) -> dict[str, Section]:
        return {name: getattr(methods, name) for name in sections if name in methods.model_fields_set}

    return Annotated[given, AfterValidator(named)]


def _nests(section: type[Section]) -> bool:
    """Tell whether a section is not complete before all scorers are known."""
    return not section.__pydantic_complete__


def _complete(section: type[Section], **types: Any) -> None:
    if _nests(section):
        section.model_rebuild(_types_namespace=types)
