"""Numbers as DVC writes them are numbers, and whatever two versions of YAML could read differently is refused."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML  # which DVC reads with

from pipeline.config.plain_yaml import parsed
from pipeline.io.errors import UserError

FILE = Path("params.yaml")
REFUSED = {
    "an anchor": "a: &x 1",
    "an alias": "a: *x",
    "an anchored list": "a: &x [1]",
    "a tag": "a: !!int '1'",
    "a tag of our own": "a: !secret b",
    "a tag that would run code": "a: !!python/object/apply:os.getcwd []",
    "a key twice": "a: 1\nb: 2\na: 3",
    "a merge key": "a: {<<: {b: 1}}",
    "a list as key": "? [1]\n: 2",
    "an octal number": "a: 010",
    "an octal number with a sign": "a: -017",
    "a hexadecimal number": "a: 0x1F",
    "a binary number": "a: 0b11",
    "a number to base 60": "a: 1:30",
    "a fraction to base 60": "a: 190:20:30.15",
    "a number with underscores": "a: 1_000",
    "a fraction with underscores": "a: 1_000.5",
    "a leading zero with an exponent": "a: 010e3",
    "a date of no calendar": "a: 2026-13-45",
    "too many digits": "a: " + "9" * 5000,
    "too deep": "a: " + "[" * 21 + "]" * 21,
}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e-05", 5e-05),
        ("2e-4", 2e-4),
        ("1E3", 1000.0),
        ("1e+2", 100.0),
        ("-3e4", -30000.0),
        ("+1e0", 1.0),
        ("1.e2", 100.0),
        ("2.0e-4", 2e-4),
        ("2.5e3", 2500.0),
    ],
)
def test_a_number_with_an_exponent_is_a_number(written, value):
    found = parsed(FILE, f"a: {written}\nb: [{written}]\n")
    assert found == {"a": value, "b": [value]} == YAML(typ="safe").load(f"a: {written}\nb: [{written}]\n")
    assert type(found["a"]) is float


@pytest.mark.parametrize("text", [".5e1", "e5", "1e", "1e+", "1e5x", "1e5.0", "x1e5", "'2e-4'", '"5e-05"', "1e 5"])
def test_what_only_resembles_one_stays_text(text):
    assert parsed(FILE, f"a: {text}") == {"a": text.strip("'\"")} == YAML(typ="safe").load(f"a: {text}")


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_plain_is_refused_with_its_line(form):
    with pytest.raises(UserError, match=r"^params\.yaml: line \d+, column \d+: expected plain YAML, but "):
        parsed(FILE, REFUSED[form])
