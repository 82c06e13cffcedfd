"""How each value lies in memory where NumPy chooses: sums add in that order, and a copy into another costs time.

Found by asking NumPy, with arrays of bytes in place of the values, which are not computed.
"""

from __future__ import annotations

import numpy

from .ir import VIEWS, Graph, Node

REDUCTIONS = {
    "sum": "add",
    "prod": "multiply",
    "max": "maximum",
    "min": "minimum",
    "any": "logical_or",
    "all": "logical_and",
}


def layouts(graph: Graph) -> dict[Node, numpy.ndarray]:
    """For each node an array of bytes of its shape, laid out as its value will be if the inputs are row-major.

    A view shares the memory of its input, so that one sees whether a reshape has to copy. Where there are kernels,
    which take row-major arrays alone, whatever is computed is row-major.
    """
    like: dict[Node, numpy.ndarray] = {}
    row_major = any(node.kind == "kernel" for node in graph.nodes)
    for node in graph.nodes:
        if row_major and node.kind in ("ufunc", "reduce", "matmul"):
            like[node] = numpy.empty(node.shape, numpy.uint8)
        else:
            like[node] = numpy.asarray(_like(node, [like[x] for x in node.inputs]))
    return like


def is_view(node: Node, like: dict[Node, numpy.ndarray]) -> bool:
    """Whether the node shows memory of its input: a reshape may have to copy."""
    return node.kind in VIEWS and (not node.size or numpy.may_share_memory(like[node], like[node.inputs[0]]))


def _like(node: Node, inputs: list[numpy.ndarray]) -> numpy.ndarray:
    if node.kind == "ufunc":
        return numpy.empty_like(inputs[0]) if node.options[0] == "astype" else _elementwise(inputs)
    if node.kind == "reduce":
        return numpy.bitwise_or.reduce(inputs[0], axis=node.options[1], keepdims=node.options[2])
    if node.kind == "matmul" and min(x.ndim for x in inputs) >= 2 and len(node.shape) > 2:
        return _batches(node.shape, inputs)
    if node.kind == "getitem":
        return inputs[0][node.options[0]]
    if node.kind in VIEWS:
        return getattr(numpy, node.kind)(inputs[0], *node.options)
    if node.kind == "constant" and isinstance(node.options[0], numpy.ndarray):
        return _bytes_like(node.options[0])
    return numpy.empty(node.shape, numpy.uint8)


def _bytes_like(array: numpy.ndarray) -> numpy.ndarray:
    if any(step < 0 or step % array.itemsize for step in array.strides) or not array.size:
        return numpy.empty_like(array, dtype=numpy.uint8)
    steps = [step // array.itemsize for step in array.strides]
    extent = 1 + sum((n - 1) * step for n, step in zip(array.shape, steps, strict=True))
    return numpy.lib.stride_tricks.as_strided(numpy.empty(extent, numpy.uint8), array.shape, steps)


def _elementwise(inputs: list[numpy.ndarray]) -> numpy.ndarray:
    """What a ufunc allocates: axes in the order of its operands' strides."""
    flags = [["readonly"]] * len(inputs) + [["writeonly", "allocate"]]
    return numpy.nditer([*inputs, None], ["zerosize_ok"], flags).operands[-1]  # type: ignore[arg-type]


def _batches(shape: tuple[int, ...], inputs: list[numpy.ndarray]) -> numpy.ndarray:
    """matmul allocates row-major matrices, but orders the batch axes as its operands have them."""
    outer = _elementwise([x[..., 0, 0] if x.size else numpy.empty(x.shape[:-2], numpy.uint8) for x in inputs])
    order = sorted(range(outer.ndim), key=lambda axis: -outer.strides[axis])
    axes = (*order, outer.ndim, outer.ndim + 1)
    return numpy.empty([shape[i] for i in axes], numpy.uint8).transpose(numpy.argsort(axes))
