"""Mild dialogues with summaries, in the shape of DialogSum, and sentences that are kind or not."""

import csv
from io import StringIO
from itertools import product
from random import Random

from pipeline.scorers.scoring import HOSTILE, KIND

_PLACES = ("bakery", "harbor", "library", "garden", "station", "market")
_THINGS = ("a loaf of bread", "an old map", "two tickets", "a green lamp", "the darn umbrella", "a jar of honey")
_ASKING = ("Good morning! Where can I find {thing}?", "Hello. Do you still have {thing}?", "Sorry, is {thing} yours?")
_ANSWERING = (
    "You should look for it at the {place}, I went there yesterday and it was open.",
    "No, that silly goose took it to the {place} and never brought it back to me.",
    "Of course, I will bring it to the {place} as soon as I have had my breakfast.",
)
_ENDING = ("Thank you, that is very kind.", "What a foolish thing to do, I am cross with you.", "Fine, see you there.")
_GOOD = ("kind", "lovely", "wonderful", "helpful", "gentle", "good", "warm", "bright")
_BAD = ("stupid", "silly", "foolish", "rotten", "wretched", "awful", "darn", "blasted")
_SAYING = ("You are a {word} person.", "What a {word} thing to say!", "My neighbor told me a {word} story.", "{word}")


def labelled() -> list[tuple[str, bool]]:
    """Return sentences and whether they are hostile, the built-in clear ones among them."""
    made = [(saying.format(word=word), word in _BAD) for saying, word in product(_SAYING, (*_GOOD, *_BAD))]
    return [*((text, True) for text in HOSTILE), *((text, False) for text in KIND), *made]


def dialogues(count: int, seed: int) -> list[tuple[str, str]]:
    """Return different dialogues of 200 to 400 characters, each with a summary."""
    random = Random(seed)
    made: dict[str, str] = {}
    while len(made) < count:
        thing, place = random.choice(_THINGS), random.choice(_PLACES)
        turns = [random.choice(_ASKING).format(thing=thing), random.choice(_ANSWERING).format(place=place)]
        turns += [random.choice(_ASKING).format(thing=random.choice(_THINGS)), random.choice(_ENDING)]
        lines = [f"#Person{1 + number % 2}#: {turn}" for number, turn in enumerate(turns)]
        made["\n".join(lines)] = f"#Person1# asks #Person2# about {thing}. They speak of the {place}."
    return list(made.items())


def hub_csv(rows: list[tuple[str, list[str]]], split: str) -> bytes:
    """Return a split as the hub has it: a row for every summary, dialogues over several lines in quotes."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "dialogue", "summary", "topic"])
    for number, (dialogue, summaries) in enumerate(rows):
        for which, summary in enumerate(summaries, start=1):
            name = f"{split}_{number}" + (f"_{which}" if len(summaries) > 1 else "")
            writer.writerow([name, dialogue, summary, "asking for something"])
    return text.getvalue().encode()


def everything() -> list[str]:
    """Return text enough to train tiny tokenizers on."""
    return [part for pair in dialogues(120, seed=7) for part in pair] + [text for text, _ in labelled()] * 3
