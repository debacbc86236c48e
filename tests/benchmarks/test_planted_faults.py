"""The planted faults fit the code as it is: each is in one place, and what it leaves is Python."""

import ast
from pathlib import Path

import pytest

from benchmarks import planted_faults
from benchmarks.planted_faults import Fault
from pipeline.io.errors import UserError

FAULTS = planted_faults.read()


def test_there_are_sixty_and_more_over_all_rooms_that_can_harm_a_result():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 60
    assert {fault.room for fault in FAULTS} >= {
        *("policy", "methods", "scorers", "evaluation", "data", "sources", "io", "tracking", "preferences")
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_the_code_and_leaves_python(fault: Fault, root: Path):
    right = (root / fault.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(fault.planted(right))) != ast.dump(ast.parse(right))
    assert (root / "tests" / fault.room).is_dir()


def test_a_fault_that_no_longer_fits_is_named():
    with pytest.raises(UserError, match="'gone'.*occurs 0 times"):
        Fault("gone", "io", "pipeline/io/paths.py", "", "no such text", "").planted("text")
