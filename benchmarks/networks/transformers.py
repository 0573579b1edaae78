"""Transformers as they are: BERT-base, ViT-B/16, blocks of LLaMA.

Enters: a scale for widths, heads, layers and lengths. Leaves: networks of one sequence, from
embeddings (BERT, LLaMA) or an image (ViT) on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.networks.network import Net, Network, scaled


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer. `width` is heads times `head`."""

    layers: int
    tokens: int
    heads: int
    head: int
    hidden: int

    @property
    def width(self) -> int:
        return self.heads * self.head

    def scaled(self, scale: float) -> Shape:
        return Shape(
            scaled(self.layers, scale),
            scaled(self.tokens, scale),
            scaled(self.heads, scale),
            scaled(self.head, scale, 2),
            scaled(self.hidden, scale),
        )


BERT = Shape(12, 128, 12, 64, 3072)
VIT = Shape(12, 196, 12, 64, 3072)


def linear(net: Net, x: str, rows: int, columns: int, gain: float = 1.0) -> str:
    product = net.op("MatMul", x, net.weight([rows, columns], gain=gain))
    return net.op("Add", product, net.bias(columns))


def layer_norm(net: Net, x: str, width: int) -> str:
    scale = net.weight([width], 100, mean=1.0)
    return net.op("LayerNormalization", x, scale, net.bias(width), axis=-1, epsilon=1e-6)


def split_heads(net: Net, x: str, tokens: int, heads: int, head: int) -> str:
    """[1, tokens, heads * head] as [1, heads, tokens, head]."""
    return net.transpose(net.reshape(x, [1, tokens, heads, head]), [0, 2, 1, 3])


def attention(net: Net, x: str, shape: Shape, tokens: int) -> str:
    """Self-attention of all heads, with softmax."""
    width, heads, head = shape.width, shape.heads, shape.head
    q, k, v = (
        split_heads(net, linear(net, x, width, width), tokens, heads, head) for _ in range(3)
    )
    scores = net.op("MatMul", q, net.transpose(k, [0, 1, 3, 2]))
    scores = net.op("Div", scores, net.constant(math.sqrt(head)))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    joined = net.reshape(net.transpose(mixed, [0, 2, 1, 3]), [1, tokens, width])
    return linear(net, joined, width, width)


def feed_forward(net: Net, x: str, shape: Shape) -> str:
    inner = net.op("Gelu", linear(net, x, shape.width, shape.hidden))
    return linear(net, inner, shape.hidden, shape.width)


def bert(scale: float = 1.0, layers: int = BERT.layers) -> Network:
    """BERT-base: 12 layers, 128 tokens, width 768, normalised after each block."""
    net, shape = Net("bert"), replace(BERT, layers=layers).scaled(scale)
    x = net.input([1, shape.tokens, shape.width])
    for _ in range(shape.layers):
        x = layer_norm(net, net.op("Add", x, attention(net, x, shape, shape.tokens)), shape.width)
        x = layer_norm(net, net.op("Add", x, feed_forward(net, x, shape)), shape.width)
    return net.network(x)


def vit(scale: float = 1.0) -> Network:
    """ViT-B/16 on 224 x 224: patches of 16, a class token, 12 layers, normalised before each."""
    net, shape = Net("vit"), VIT.scaled(scale)
    side = max(1, round(math.sqrt(shape.tokens)))
    patches, patch = side * side, scaled(16, scale, 2)
    image = net.input([1, 3, side * patch, side * patch])
    kernel = net.weight([shape.width, 3, patch, patch])
    x = net.op("Conv", image, kernel, net.bias(shape.width), strides=[patch, patch])
    x = net.transpose(net.reshape(x, [1, shape.width, patches]), [0, 2, 1])
    x = net.op("Concat", net.weight([1, 1, shape.width], 1), x, axis=1)
    tokens = patches + 1
    x = net.op("Add", x, net.weight([1, tokens, shape.width], 1))
    for _ in range(shape.layers):
        inner = layer_norm(net, x, shape.width)
        x = net.op("Add", x, attention(net, inner, shape, tokens))
        inner = layer_norm(net, x, shape.width)
        x = net.op("Add", x, feed_forward(net, inner, shape))
    x = layer_norm(net, x, shape.width)
    first = net.op("Gather", x, net.constant(0, np.int64), axis=1)
    return net.network(linear(net, first, shape.width, scaled(1000, scale)))


@dataclass(frozen=True)
class Grouped:
    """Sizes of a LLaMA-like model: `heads` of queries for `pairs` of keys and values."""

    layers: int = 8
    heads: int = 16
    pairs: int = 4
    head: int = 64
    hidden: int = 2816


def llama_prefill(scale: float = 1.0, layers: int = 8) -> Network:
    """LLaMA-like blocks over 128 new tokens, each of which sees those before it."""
    return _llama("llama_prefill", scale, layers, scaled(128, scale), 0)


def llama_decode(scale: float = 1.0, layers: int = 8) -> Network:
    """The same blocks for one new token after 512 whose keys and values are kept."""
    return _llama("llama_decode", scale, layers, 1, scaled(512, scale))


def _llama(name: str, scale: float, layers: int, tokens: int, past: int) -> Network:
    net, own = Net(name), Grouped()
    pairs, head = scaled(own.pairs, scale), scaled(own.head, scale, 2)
    shape = Grouped(
        scaled(layers, scale), pairs * (own.heads // own.pairs), pairs, head,
        scaled(own.hidden, scale),
    )  # fmt: skip
    x = net.input([1, tokens, shape.heads * head])
    # The angles of the positions, and which positions a token sees, are the same in all layers.
    angles = [net.weight([1, 1, tokens, head], 1, name=part) for part in ("cosines", "sines")]
    mask = ""
    if tokens > 1:
        sees_not = np.triu(np.full((tokens, tokens), -1e9, np.float32), 1)
        mask = net.constant(sees_not)
    for layer in range(shape.layers):
        kept = [
            net.input([1, shape.pairs, past, head], f"{part}{layer}")
            for part in ("keys", "values")
            if past
        ]
        inner = rms_norm(net, x, shape.heads * head)
        x = net.op("Add", x, grouped_attention(net, inner, shape, tokens, angles, kept, mask))
        inner = rms_norm(net, x, shape.heads * head)
        x = net.op("Add", x, gated(net, inner, shape.heads * head, shape.hidden))
    return net.network(rms_norm(net, x, shape.heads * head))


def rms_norm(net: Net, x: str, width: int) -> str:
    square = net.op("Mul", x, x)
    mean = net.op("ReduceMean", square, net.constant([-1], np.int64), keepdims=1)
    root = net.op("Sqrt", net.op("Add", mean, net.constant(1e-5)))
    return net.op("Mul", net.op("Div", x, root), net.weight([width], 100, mean=1.0))


def rotated(net: Net, x: str, head: int, angles: list[str]) -> str:
    """Rotary positions: the two halves of each head turned by the angle of the position."""
    first, second = net.ops("Split", 2, x, axis=-1, num_outputs=2)
    turned = net.op("Concat", net.op("Neg", second), first, axis=-1)
    return net.op("Add", net.op("Mul", x, angles[0]), net.op("Mul", turned, angles[1]))


def grouped_attention(
    net: Net, x: str, shape: Grouped, tokens: int, angles: list[str], kept: list[str], mask: str
) -> str:
    width, head, group = shape.heads * shape.head, shape.head, shape.heads // shape.pairs
    q = net.op("MatMul", x, net.weight([width, width]))
    k, v = (net.op("MatMul", x, net.weight([width, shape.pairs * head])) for _ in range(2))
    q = rotated(net, split_heads(net, q, tokens, shape.heads, head), head, angles)
    k = rotated(net, split_heads(net, k, tokens, shape.pairs, head), head, angles)
    v = split_heads(net, v, tokens, shape.pairs, head)
    if kept:
        k, v = (net.op("Concat", old, new, axis=2) for old, new in zip(kept, (k, v), strict=True))
    q = net.reshape(q, [1, shape.pairs, group, tokens, head])
    k, v = (net.op("Unsqueeze", part, net.constant([2], np.int64)) for part in (k, v))
    scores = net.op("MatMul", q, net.transpose(k, [0, 1, 2, 4, 3]))
    scores = net.op("Mul", scores, net.constant(1 / math.sqrt(head)))
    if mask:
        scores = net.op("Add", scores, mask)
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    mixed = net.reshape(mixed, [1, shape.heads, tokens, head])
    joined = net.reshape(net.transpose(mixed, [0, 2, 1, 3]), [1, tokens, width])
    return net.op("MatMul", joined, net.weight([width, width], gain=0.5))


def gated(net: Net, x: str, width: int, hidden: int) -> str:
    """SwiGLU: one product, through silu, times another."""
    gate, up = (net.op("MatMul", x, net.weight([width, hidden])) for _ in range(2))
    bent = net.op("Mul", gate, net.op("Sigmoid", gate))
    return net.op("MatMul", net.op("Mul", bent, up), net.weight([hidden, width], gain=0.5))
