"""What of a model decides its memory: counted on its architecture without weights, from the configuration alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.sections import LoraSection, ModelSection

# Numbers that the backward pass keeps of a token, per number that a linear layer puts out: its output, what the
# activation, the norms and attention make of it. Counted (torch.autograd.graph.saved_tensors_hooks): 2.06 for Llama,
# and 2.1 to 2.5 for T5; tests/apps/plan/test_plan_shape.py counts again.
KEPT_PER_OUTPUT = 2.1
NF4_BYTES = 0.516  # of a weight: 4 bits, and 8 + 32/256 bits of scale for each 64 of them (Dettmers et al. 2023, 3)
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Linear:
    """A linear layer of the model: its place, and how many numbers it reads and puts out."""

    name: str
    inputs: int
    outputs: int
    is_head: bool


@dataclass(frozen=True)
class Shape:
    """A model as memory sees it. All sizes are counts of numbers but `itemsize`, in bytes.

    cached: keys and values of a token over all layers. hidden: kept of a token by each layer that recomputes.
    """

    parameters: int
    linears: tuple[Linear, ...]
    layers: int
    hidden: int
    vocabulary: int
    cached: int
    itemsize: int
    quantized: bool

    @property
    def weights(self) -> int:
        """Return the bytes of the frozen weights."""
        packed = sum(item.inputs * item.outputs for item in self.linears if not item.is_head) if self.quantized else 0
        return int((self.parameters - packed) * self.itemsize + packed * NF4_BYTES)

    def trainable(self, lora: LoraSection) -> int:
        """Return how many numbers a LoRA adapter trains."""
        return sum(lora.r * (item.inputs + item.outputs) for item in self._adapted(lora.target_modules))

    def merged(self, lora: LoraSection) -> int:
        """Return the bytes of the adapted weights' second copy, which sampling makes of float32 alone."""
        if self.quantized or self.itemsize != BYTES["float32"]:
            return 0
        return sum(item.inputs * item.outputs for item in self._adapted(lora.target_modules)) * self.itemsize

    def kept(self, recomputes: bool) -> int:
        """Return the bytes that the backward pass keeps of one token."""
        outputs = sum(item.outputs for item in self.linears if not item.is_head)
        whole = KEPT_PER_OUTPUT * outputs
        # Each layer's input, and for a moment all that one layer keeps.
        numbers = self.layers * self.hidden + whole / self.layers if recomputes else whole
        return int(numbers * self.itemsize)

    def _adapted(self, targets: Sequence[str]) -> list[Linear]:
        return [item for item in self.linears if any(item.name == t or item.name.endswith(f".{t}") for t in targets)]


def shape_of(config: Any, model: ModelSection) -> Shape:
    """Count a model on the device `meta`: nothing is allocated."""
    from pipeline.policy.loading import skeleton

    whole = skeleton(config, model)
    head = whole.get_output_embeddings()
    linears = tuple(
        Linear(name, *_sizes(module), is_head=module is head)
        for name, module in whole.named_modules()
        if getattr(module, "weight", None) is not None and _is_linear(module)
    )
    text = config.get_text_config()
    reading = int(text.num_hidden_layers)
    writing = int(getattr(text, "num_decoder_layers", None) or reading)
    heads = int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    width = (
        getattr(text, "head_dim", None) or getattr(text, "d_kv", None) or text.hidden_size // text.num_attention_heads
    )
    encodes = any("encoder" in item.name.split(".") for item in linears)
    return Shape(
        parameters=sum(parameter.numel() for parameter in whole.parameters()),
        linears=linears,
        layers=reading + writing if encodes else reading,
        hidden=int(text.hidden_size),
        vocabulary=int(text.vocab_size),
        cached=2 * writing * heads * int(width),
        itemsize=BYTES[model.dtype],
        quantized=model.quantization is not None,
    )


def _is_linear(module: Any) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D")  # GPT-2's kind has the second, with its sides exchanged


def _sizes(module: Any) -> tuple[int, int]:
    rows, columns = module.weight.shape
    return (int(columns), int(rows)) if type(module).__name__ == "Linear" else (int(rows), int(columns))
