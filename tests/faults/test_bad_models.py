"""Base checkpoints and tokenizers that are broken: nothing is sampled from them, nothing starts from random numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.faults.breaking import (
    COMPLETE,
    DPO,
    PPO,
    PREFERENCES,
    PROBE,
    REFERENCE,
    SFT,
    Fault,
    Tensors,
    both,
    cases,
    cut,
    folder_gone,
    folder_instead,
    keys,
    parameter,
    pickle_instead,
    pickled,
    removed,
    tensors,
    written,
)
from tests.faults.conftest import refused
from tests.policy.tiny_t5 import FLUENCY

BASE = Path("models/smoke/base")
CONFIG, WEIGHTS = BASE / "config.json", BASE / "model.safetensors"
GENERATION = BASE / "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = BASE / "tokenizer.json", BASE / "tokenizer_config.json"
INDEX = BASE / "model.safetensors.index.json"
HEAD, LAYER = "lm_head.weight", "model.layers.1.mlp.up_proj.weight"


def one_number(name: str, value: float) -> Callable[[Tensors], None]:
    def change(found: Tensors) -> None:
        found[name].flatten()[3] = value

    return change


def grown(name: str) -> Callable[[Tensors], None]:
    def change(found: Tensors) -> None:
        found[name] = torch.cat([found[name], found[name]])

    return change


def renamed(name: str, other: str) -> Callable[[Tensors], None]:
    def change(found: Tensors) -> None:
        found[other] = found.pop(name)

    return change


def header_of_a_terabyte() -> bytes:
    return (2**40).to_bytes(8, "little") + b'{"a":{}}'


def larger_vocabulary() -> None:
    found = json.loads(TOKENIZER.read_text())
    last = found["added_tokens"][-1]
    more = [last | {"id": 257 + number, "content": f"<more{number}>"} for number in range(3)]
    TOKENIZER.write_text(json.dumps(found | {"added_tokens": [*found["added_tokens"], *more]}))


CHECKPOINTS = [
    Fault("no folder", folder_gone(BASE), REFERENCE, (str(BASE),)),
    Fault("no config", removed(CONFIG), REFERENCE, (str(CONFIG),)),
    Fault("config that is a folder", folder_instead(CONFIG), REFERENCE, (str(CONFIG),)),
    Fault("empty config", written(CONFIG, ""), PPO, (str(CONFIG),)),
    Fault("half a config", cut(CONFIG), SFT, (str(CONFIG),)),
    Fault("config that is a list", written(CONFIG, "[1]"), COMPLETE, (str(CONFIG),)),
    Fault("config in Latin-1", written(CONFIG, b'{"model_type": "ll\xe4ma"}'), PROBE, (str(CONFIG),)),
    Fault("config without a model type", keys(CONFIG, model_type=...), REFERENCE, (str(CONFIG), "model_type")),
    Fault("config of an unknown model", keys(CONFIG, model_type="gooseformer"), DPO, (str(CONFIG), "gooseformer")),
    Fault("config of an encoder-decoder", keys(CONFIG, model_type="t5"), REFERENCE, (str(CONFIG), "architecture")),
    Fault("config of a vision model", keys(CONFIG, model_type="vit"), REFERENCE, (str(CONFIG), "architecture")),
    Fault(
        "architecture of the parameters",
        both(parameter("model", architecture="seq2seq"), parameter("fluency", **FLUENCY)),
        REFERENCE,
        (str(CONFIG), "architecture"),
    ),
    Fault(
        "config with code",
        keys(CONFIG, auto_map={"AutoModelForCausalLM": "evil.Model"}),
        REFERENCE,
        (str(CONFIG), "auto_map"),
    ),
    Fault(
        "config with code of a repository",
        keys(CONFIG, model_type="own", auto_map={"AutoConfig": "who/what--evil.Config"}),
        PPO,
        (str(CONFIG), "auto_map"),
    ),
    Fault(
        "config that says quantized",
        keys(CONFIG, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        COMPLETE,
        (str(CONFIG), "quantization_config"),
    ),
    Fault("config with a width in words", keys(CONFIG, hidden_size="wide"), REFERENCE, (str(CONFIG), "hidden_size")),
    Fault("config with no layers", keys(CONFIG, num_hidden_layers=0), REFERENCE, (str(BASE),)),
    Fault(
        "config with fewer layers than weights", keys(CONFIG, num_hidden_layers=1), REFERENCE, (str(BASE), "layers.1")
    ),
    Fault("config with more layers than weights", keys(CONFIG, num_hidden_layers=3), DPO, (str(BASE), "layers.2")),
    Fault("config with a negative width", keys(CONFIG, hidden_size=-32), REFERENCE, (str(CONFIG),)),
    Fault("config of another width", keys(CONFIG, hidden_size=64), SFT, (str(BASE), "shape")),
    Fault(
        "config with heads that do not divide",
        keys(CONFIG, num_attention_heads=3, head_dim=...),
        REFERENCE,
        (str(BASE),),
    ),
    Fault("config of another vocabulary", keys(CONFIG, vocab_size=300), PROBE, (str(BASE), "shape")),
    Fault("config with an unknown activation", keys(CONFIG, hidden_act="honk"), REFERENCE, (str(CONFIG), "honk")),
    Fault(
        "config with a rope of no kind",
        keys(CONFIG, rope_parameters={"rope_type": "braided"}),
        REFERENCE,
        (str(CONFIG),),
    ),
    Fault("config with a shorter context", keys(CONFIG, max_position_embeddings=20), COMPLETE, ("20 tokens",)),
    Fault("no weights", removed(WEIGHTS), REFERENCE, (str(BASE), "safetensors")),
    Fault(
        "weights in a pickle alone", pickle_instead(WEIGHTS, "pytorch_model.bin"), REFERENCE, (str(BASE), "safetensors")
    ),
    Fault("pickle named safetensors", written(WEIGHTS, pickled()), PPO, (str(WEIGHTS),)),
    Fault("empty weights", written(WEIGHTS, b""), REFERENCE, (str(WEIGHTS),)),
    Fault("weights that are a folder", folder_instead(WEIGHTS), REFERENCE, (str(WEIGHTS),)),
    Fault("half of the weights", cut(WEIGHTS), COMPLETE, (str(WEIGHTS),)),
    Fault("weights that lack a byte", lambda: WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:-1]), DPO, (str(WEIGHTS),)),
    Fault("weights of noise", written(WEIGHTS, bytes(range(256)) * 64), SFT, (str(WEIGHTS),)),
    Fault("weights with a header of a terabyte", written(WEIGHTS, header_of_a_terabyte()), PROBE, (str(WEIGHTS),)),
    Fault(
        "a pointer of Git LFS",
        written(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        REFERENCE,
        (str(WEIGHTS),),
    ),
    Fault("weights that lack a layer", tensors(WEIGHTS, lambda found: found.pop(LAYER)), REFERENCE, (str(BASE), LAYER)),
    Fault("weights without an output layer", tensors(WEIGHTS, lambda found: found.pop(HEAD)), PPO, (str(BASE), HEAD)),
    Fault("weights without anything", tensors(WEIGHTS, lambda found: found.clear()), PREFERENCES, (str(BASE),)),
    Fault("weights under other names", tensors(WEIGHTS, renamed(LAYER, "goose.weight")), REFERENCE, (str(BASE), LAYER)),
    Fault(
        "weights with one more",
        tensors(WEIGHTS, lambda found: found.update(goose=torch.zeros(2))),
        REFERENCE,
        (str(BASE), "goose"),
    ),
    Fault("weights of another shape", tensors(WEIGHTS, grown(LAYER)), REFERENCE, (str(BASE), LAYER, "shape")),
    Fault(
        "weights with NaN", tensors(WEIGHTS, one_number(LAYER, float("nan"))), REFERENCE, (str(BASE), LAYER, "finite")
    ),
    Fault("weights with infinity", tensors(WEIGHTS, one_number(HEAD, float("-inf"))), PPO, (str(BASE), HEAD, "finite")),
    Fault("index that is broken", written(INDEX, "{"), REFERENCE, (str(INDEX),)),
    Fault("index without a map", written(INDEX, '{"metadata": {}}'), REFERENCE, (str(INDEX), "weight_map")),
    Fault(
        "index of shards that are missing",
        both(
            removed(WEIGHTS),
            written(INDEX, json.dumps({"metadata": {}, "weight_map": {LAYER: "model-00001-of-00002.safetensors"}})),
        ),
        REFERENCE,
        (str(INDEX), "model-00001-of-00002.safetensors"),
    ),
    Fault(
        "index that leads out of the folder",
        both(
            removed(WEIGHTS),
            written(
                INDEX,
                json.dumps({"metadata": {}, "weight_map": {LAYER: "../../../sources/checkpoint/model.safetensors"}}),
            ),
        ),
        REFERENCE,
        (str(INDEX), "../"),
    ),
    Fault("generation config that is broken", cut(GENERATION), COMPLETE, (str(GENERATION),)),
    Fault(
        "generation config with an end of words",
        keys(GENERATION, eos_token_id="<end>"),
        REFERENCE,
        (str(GENERATION), "eos_token_id"),
    ),
    Fault(
        "generation config with an end beyond the vocabulary",
        keys(GENERATION, eos_token_id=[256, 70000]),
        REFERENCE,
        (str(GENERATION), "eos_token_id", "70000"),
    ),
    Fault(
        "generation config with a negative end",
        keys(GENERATION, eos_token_id=-1),
        PPO,
        (str(GENERATION), "eos_token_id"),
    ),
]

TOKENIZERS = [
    Fault("no tokenizer", both(removed(TOKENIZER), removed(TOKENIZER_CONFIG)), REFERENCE, (str(BASE), "tokenizer")),
    Fault("no tokenizer.json", removed(TOKENIZER), COMPLETE, (str(BASE), "tokenizer")),
    Fault("empty tokenizer", written(TOKENIZER, ""), REFERENCE, (str(TOKENIZER),)),
    Fault("half a tokenizer", cut(TOKENIZER), PPO, (str(TOKENIZER),)),
    Fault("tokenizer that is an empty object", written(TOKENIZER, "{}"), PREFERENCES, (str(TOKENIZER),)),
    Fault("tokenizer of an unknown kind", keys(TOKENIZER, model={"type": "Honk"}), PROBE, (str(TOKENIZER),)),
    Fault(
        "tokenizer without a vocabulary",
        keys(TOKENIZER, model={"type": "BPE", "vocab": {}, "merges": []}),
        COMPLETE,
        (str(BASE),),
    ),
    Fault("tokenizer that is no text", written(TOKENIZER, b"\xff\xfe\x00"), DPO, (str(TOKENIZER),)),
    Fault("tokenizer config that is broken", cut(TOKENIZER_CONFIG), SFT, (str(TOKENIZER_CONFIG),)),
    Fault("tokenizer config that is a list", written(TOKENIZER_CONFIG, "[]"), REFERENCE, (str(TOKENIZER_CONFIG),)),
    Fault(
        "tokenizer config with code",
        keys(TOKENIZER_CONFIG, tokenizer_class="Own", auto_map={"AutoTokenizer": ["evil.Own", None]}),
        REFERENCE,
        (str(TOKENIZER_CONFIG), "auto_map"),
    ),
    Fault(
        "tokenizer without an end", keys(TOKENIZER_CONFIG, eos_token=None), REFERENCE, (str(BASE), "end-of-sequence")
    ),
    Fault(
        "tokenizer whose end is a token more",
        keys(TOKENIZER_CONFIG, eos_token="<other>"),
        REFERENCE,
        (str(BASE), "257"),
    ),
    Fault("tokenizer larger than the model", larger_vocabulary, PPO, (str(BASE), "257")),
    Fault(
        "tokenizer with an end of another type",
        keys(TOKENIZER_CONFIG, eos_token=7),
        REFERENCE,
        (str(BASE), "tokenizer"),
    ),
]


@pytest.mark.parametrize("fault", cases([*CHECKPOINTS, *TOKENIZERS]))
def test_it_is_refused(fault: Fault, workplace: Path) -> None:
    fault.broken()
    refused(*fault.arguments, names=fault.names)
