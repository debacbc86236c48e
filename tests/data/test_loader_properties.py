"""Whatever the parameters and the downloaded bytes are: they are used as they stand, or refused with one message."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.apps.stage import Stage
from pipeline.config import sections
from pipeline.config.loader import load
from pipeline.data import readers, schema
from pipeline.data.splits import NAMES, split
from pipeline.io import paths, records
from pipeline.io.errors import UserError
from pipeline.tracking.recording import NullRun
from stages import format as format_stage

ROOT = Path(__file__).resolve().parents[2]
SOUND = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
SOUND["data"] |= {"dataset": "jsonl", "eval_fraction": 0.3, "dev_fraction": 0.2}
TEXT = yaml.safe_dump(SOUND, sort_keys=False)
SECTIONS = tuple(sections.ExperimentFile.model_fields)
FILE = paths.experiment_file("exp")
RAW = paths.raw("exp") / "prompts" / "prompts.jsonl"

TEXTS = st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
# Words enough that prompts repeat, contain each other and differ in case and spacing alone.
PROMPTS = st.lists(st.sampled_from("Alpha alpha bravo carol  delta É é echo".split(" ")), min_size=1, max_size=8)
ROWS = st.fixed_dictionaries(
    {"prompt": PROMPTS.map(" ".join).filter(str.strip)},
    optional={
        "categories": st.lists(st.sampled_from(["insult", "threat"]), max_size=3),
        "demonstrations": st.lists(st.sampled_from(["Yes.", "No."]), max_size=2),
        "chosen": st.sampled_from(["a", "b"]),
    },
)
GROUND = [{"prompt": f"ground{number}"} for number in range(60)]  # enough that no split is ever empty


@pytest.fixture(scope="module", autouse=True)
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("repository"))
        FILE.parent.mkdir()
        FILE.write_text(TEXT, encoding="utf-8")
        RAW.parent.mkdir(parents=True)
        yield


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value and of every key's mapping in the parameters."""
    yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(inner, (*place, key))


def changed(place: tuple[Any, ...], value: Any) -> Any:
    """Return the sound parameters with another value at one place."""
    if not place:
        return value
    file = json.loads(json.dumps(SOUND))
    target = file
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return file


def refusal(experiment: str = "exp") -> str | None:
    """Load and return the message, None where all is sound; every line names the file."""
    try:
        load(experiment, SECTIONS)
    except UserError as error:
        assert all(line.startswith(f"{FILE}: ") and len(line) < 1500 for line in str(error).splitlines()), str(error)
        return str(error)
    return None


@settings(max_examples=60, deadline=None)
@given(place=st.sampled_from(list(leaves(SOUND))), value=VALUES)
def test_any_value_at_any_key_is_used_as_it_stands_or_refused_by_name(place, value):
    file = changed(place, value)
    try:
        FILE.write_text(yaml.safe_dump(file, allow_unicode=True), encoding="utf-8")
        message = refusal()
        if message is None:
            loaded = load("exp", SECTIONS)
            found = {name: getattr(loaded, name) for name in SECTIONS}
            named = ("scorers", "methods")
            plain = {name: section and section.model_dump() for name, section in found.items() if name not in named}
            plain |= {name: {key: item.model_dump() for key, item in found[name].items()} for name in named}
            assert plain == file
        elif place:
            section = re.escape(str(place[0]))
            named = re.search(
                rf": ({section}\b|line \d+|expected plain YAML|score\.|scorers\.|evaluate\.|judge\.)", message
            )
            assert named, message
    finally:
        FILE.write_text(TEXT, encoding="utf-8")


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.text("ab:-[]{}&*!|>'\"#%@,? \n\t0123.e<", max_size=60).map(str.encode)
    | VALUES.map(lambda value: yaml.safe_dump(value).encode())
)
def test_any_bytes_as_parameter_file_are_refused(content):
    try:
        FILE.write_bytes(content)
        assert refusal() is not None
    finally:
        FILE.write_text(TEXT, encoding="utf-8")


@settings(max_examples=60)
@given(name=st.text(max_size=40).filter(lambda name: name != "exp"))
def test_any_name_of_an_experiment_is_refused_in_one_line(name):
    with pytest.raises(UserError) as raised:
        load(name, ())
    assert len(str(raised.value).splitlines()) == 1 and len(str(raised.value)) < 1000


def formatted(content: bytes) -> dict[str, bytes] | None:
    """Run the stage's body on these raw bytes; return the files it wrote, None where it refused."""
    RAW.write_bytes(content)
    outputs = [paths.formatted("exp", name) for name in NAMES]
    for path in outputs:
        path.unlink(missing_ok=True)
    try:
        format_stage.main(
            Stage(name="format", experiment="exp", settings=load("exp", format_stage.NODE.sections), run=NullRun())
        )
    except UserError as error:
        assert len(str(error)) < 1500 and re.search(r"prompts\.jsonl(:\d+)?: |split is empty", str(error)), str(error)
        assert not any(path.exists() for path in outputs)
        return None
    return {path.name: path.read_bytes() for path in outputs}


def lines(rows: list[Any], **options: Any) -> bytes:
    return "".join(json.dumps(row, **options) + "\n" for row in rows).encode("utf-8", "surrogatepass")


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=100)
    | st.lists(VALUES, max_size=3).map(lambda rows: lines([*GROUND, *rows]))
    | st.lists(st.dictionaries(st.sampled_from(["prompt", "categories", "chosen"]), VALUES), max_size=3).map(
        lambda rows: lines([*GROUND, *rows], ensure_ascii=False)
    )
    | st.text('{}[]":,promt\\ud80 \n\r\x00\ufeff', max_size=40).map(lambda text: lines(GROUND) + text.encode())
)
def test_any_bytes_are_formatted_or_refused_by_file_and_row(content, parsed_once):
    formatted(content)


@pytest.fixture(scope="module")
def parsed_once() -> Iterator[None]:
    """Parse the parameters once: reading YAML takes longer than everything else here."""
    loaded = load("exp", format_stage.NODE.sections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "load", lambda *_: loaded)
        yield


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, max_size=25), order=st.randoms(use_true_random=False))
def test_formatting_depends_on_the_rows_alone_and_not_on_their_order(rows, order, parsed_once):
    rows = [*GROUND, *rows]
    shuffled = rows[:]
    order.shuffle(shuffled)
    once = formatted(lines(rows))
    assert once is not None and formatted(lines(rows)) == once
    assert formatted(lines(shuffled, ensure_ascii=False)) == once


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, max_size=25))
def test_splits_are_disjoint_complete_and_read_back(rows, parsed_once):
    assert formatted(lines([*GROUND, *rows])) is not None
    data = load("exp", ("data",)).data
    read = readers.read_raw(data, RAW.parents[1]).rows
    result = split(read, data)
    kept = {name: schema.read_prompts(paths.formatted("exp", name)) for name in NAMES}
    assert kept == result.rows
    contents = [schema.normalized(row.prompt) for name in NAMES for row in kept[name]]
    assert len(contents) == len(set(contents)), "a text is in one split, once"
    assert set(contents) <= {schema.normalized(row.prompt) for row, _ in read}
    assert len(contents) + result.duplicates + result.overlapping == len(read) == result.read
    counted = records.read_json(paths.metrics("exp", "format"))
    assert sum(counts["prompts"] for counts in counted["splits"].values()) == len(contents)
