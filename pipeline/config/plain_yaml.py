"""YAML as parameter files need it: plain mappings, lists and values; no anchors, tags, repeated keys or depths."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pipeline.io.errors import UserError, shortened, shown
from pipeline.io.records import opened

LONGEST = 2**20  # characters of a file; the default experiment has 2 % of it
DEEPEST = 20  # lists and mappings within each other
REMEDY = "correct or replace the file"
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_OTHERWISE = re.compile(r"[:_xXb]|^[-+]?0[0-9]")  # 1:30 is 90 in YAML 1.1, 010 is 8 there and 10 in YAML 1.2


def read_yaml(path: Path) -> Any:
    """Read a YAML file; raise UserError naming the file, and the line where there is one, when it is not plain YAML."""
    return parsed(path, read_text(path))


def read_text(path: Path) -> str:
    """Read a parameter file with its line ends as they are; raise UserError when it is no text or larger than 1 MiB."""
    with opened(path, remedy=REMEDY, newline="") as file:
        text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise UserError(f"{path}: expected at most {LONGEST:,} characters, found more; {REMEDY}")
    return text


def parsed(path: Path, text: str) -> Any:
    """Parse the YAML text of `path`; otherwise as `read_yaml`."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}: {_told(error)}; correct it") from None
    except yaml.YAMLError as error:
        problem = shortened(" ".join(str(error).split()), 200)
        raise UserError(f"{path}: expected plain YAML, but there is {problem}; {REMEDY}") from None


def _told(error: yaml.MarkedYAMLError) -> str:
    problem = shortened(", ".join(part for part in (error.context, error.problem) if part), 300)
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{place}expected plain YAML, but {problem}"


class _PlainLoader(yaml.SafeLoader):
    """Refuse what PyYAML would take in silence or fail at without a word of where."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what is plain; an alias is refused also because nine lines of them make a billion values."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refused(
                "an anchor or alias (&name, *name) stands here; write the value where it is used", event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise _refused(f"the tag {shown(event.tag)} stands here; write a plain value", event.start_mark)
        if self._depth == DEEPEST:
            raise _refused(f"here are more than {DEEPEST} lists or mappings within each other", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; a number that YAML 1.1 and 1.2 (which DVC reads) take differently is refused."""
        if node.tag in _NUMBERS and _OTHERWISE.search(node.value):
            raise _refused(
                f"{shown(node.value)} is no plain decimal number; write it out, or quote it", node.start_mark
            )
        try:
            return super().construct_object(node, deep=deep)
        except ValueError:  # more digits than Python reads, or the 13th month
            problem = f"{shown(node.value)} cannot be read as number or date; write another, or quote it"
            raise _refused(problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; PyYAML takes the last of two equal keys in silence."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _refused("the merge key << stands here; write the keys where they are used", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _refused("a list or mapping stands here as key; write a plain key", key_node.start_mark)
            if key in seen:
                raise _refused(f"the key {shown(key)} stands here a second time; remove one", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def read_floats(loader: Any) -> None:
    """Let a loader read floats as DVC writes them (5e-05); YAML 1.1 asks for a dot and for a sign in the exponent."""
    pattern = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    loader.add_implicit_resolver("tag:yaml.org,2002:float", pattern, list("-+0123456789"))


read_floats(_PlainLoader)
