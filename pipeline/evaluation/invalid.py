"""What pydantic found wrong, in the words of our messages: the key, what was expected, what was found."""

import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.io.errors import shortened, shown

_CLASS = re.compile(r"a valid dictionary( or instance of \w+)?")
TEXTS = ("prompt", "completion")  # may be offensive: never shown


def first_problem(error: ValidationError, *outer: str) -> str:
    """Return `key: what is wrong` of the first key that is invalid; `outer` are the keys around the whole."""
    first = error.errors(include_url=False)[0]
    key = shortened(".".join(str(part) for part in (*outer, *first["loc"])), 200) or "(row)"
    return f"{key}: {_wrong(first)}"


def _wrong(found: ErrorDetails) -> str:
    if found["type"] == "missing":
        return "missing"
    message = found["msg"].removeprefix("Value error, ")
    message = _CLASS.sub("an object", message.replace("Input should be", "expected"))
    if found["type"] == "value_error":
        return message
    value = found["input"]
    is_text = isinstance(value, str) and bool({*TEXTS} & {*found["loc"]})
    return f"{message}, got {type(value).__name__ if is_text or isinstance(value, dict | list) else shown(value)}"
