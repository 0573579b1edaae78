"""Transformers as earlier superoptimisers published them, defects included.

Enters: a scale. Leaves: networks of 64, 16 or 80 tokens without batch, biases, norms or softmax.

TASO's BERT, which X-RLflow and others took over, multiplies the *input* of a layer by the output
projection, so that what attention gives is used by nothing. Here it is a result of its own, which
keeps it alive; `alive=False` drops it, and with it most of the network. Its keys are permuted but
not transposed, which fits only because a head is as wide as there are tokens. The ViT has no
activation between the two products of its MLP, so that they are one; none of these has a softmax.
The models are rebuilt from operator counts and descriptions. Gains are chosen so that values stay
in range, which deviations of one over the root of the fan-in alone do not achieve without softmax.
"""

from __future__ import annotations

import math
from dataclasses import replace

from benchmarks.networks.network import Net, Network
from benchmarks.networks.transformers import Shape

BERT = Shape(8, 64, 16, 64, 0)
VIT = Shape(12, 64, 12, 64, 3072)
MIN_DALLE = Shape(8, 16, 12, 64, 2048)
TRANSFORMER_TRANSDUCER = Shape(12, 80, 8, 64, 2048)


def bert_published(scale: float = 1.0, alive: bool = True) -> Network:
    """8 layers, 64 tokens, width 1024, 16 heads; no softmax, scaling, norm or feed-forward."""
    net, shape = Net("bert_published"), BERT.scaled(scale)
    # The keys are not transposed, so a head has to be as wide as there are tokens.
    shape = Shape(shape.layers, shape.head, shape.heads, shape.head, 0)
    x = net.op("Relu", net.input([shape.tokens, shape.width]))
    results = list[str]()
    for _ in range(shape.layers):
        results.append(_mixed(net, x, shape, (1, 0, 2)))
        x = net.op("MatMul", x, net.weight([shape.width, shape.width]))
    return net.network(x, *(results if alive else []))


def vit_published(scale: float = 1.0, layers: int = VIT.layers) -> Network:
    """12 layers, 64 tokens, width 768, an MLP of two products with nothing between them."""
    return _encoder("vit_published", replace(VIT, layers=layers).scaled(scale), "none")


def transformer_transducer_published(scale: float = 1.0) -> Network:
    """12 layers, 80 tokens, width 512, an MLP with relu; the audio encoder only."""
    return _encoder(
        "transformer_transducer_published", TRANSFORMER_TRANSDUCER.scaled(scale), "relu"
    )


def min_dalle_published(scale: float = 1.0) -> Network:
    """8 layers, 16 tokens, width 768, a gated MLP; the text encoder only."""
    return _encoder("min_dalle_published", MIN_DALLE.scaled(scale), "gated")


def _encoder(name: str, shape: Shape, kind: str) -> Network:
    net = Net(name)
    # Both branches of a layer add to its input: the more layers, the less each may add.
    gain = 1 / math.sqrt(2 * shape.layers)
    x = net.input([shape.tokens, shape.width])
    for _ in range(shape.layers):
        mixed = _mixed(net, x, shape, (1, 2, 0))
        out = net.weight([shape.width, shape.width], gain=gain)
        x = net.op("Add", x, net.op("MatMul", mixed, out))
        x = net.op("Add", x, _mlp(net, x, shape, kind, gain))
    return net.network(x)


def _mixed(net: Net, x: str, shape: Shape, keys: tuple[int, int, int]) -> str:
    """Products of queries and keys, times values, without softmax."""
    width, tokens = shape.width, shape.tokens
    small = 1 / (math.sqrt(shape.head) * tokens)
    parts = list[str]()
    for gain, order in ((small, (1, 0, 2)), (1.0, keys), (1.0, (1, 0, 2))):
        part = net.op("MatMul", x, net.weight([width, width], gain=gain))
        parts.append(net.transpose(net.reshape(part, [tokens, shape.heads, shape.head]), order))
    scores = net.op("MatMul", parts[0], parts[1])
    mixed = net.transpose(net.op("MatMul", scores, parts[2]), [1, 0, 2])
    return net.reshape(mixed, [tokens, width])


def _mlp(net: Net, x: str, shape: Shape, kind: str, gain: float) -> str:
    inner = net.op("MatMul", x, net.weight([shape.width, shape.hidden]))
    if kind == "gated":
        other = net.op("MatMul", x, net.weight([shape.width, shape.hidden]))
        inner = net.op("Mul", net.op("Relu", inner), other)
    elif kind == "relu":
        inner = net.op("Relu", inner)
    return net.op("MatMul", inner, net.weight([shape.hidden, shape.width], gain=gain))
