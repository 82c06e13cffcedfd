"""The graph of ops and values, and the reverse pass over it. Names no op and no array library.

An `Op` computes arrays from arrays and knows its derivative. Calling it on values makes a new `Value` that
remembers the op and its inputs: that is the whole graph. `reverse_pass` walks it backwards. Derivative rules take
and give tensors, so a derivative is a graph again and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .failures import op_failure, written_since, wrong_gradient, wrong_hook
from .modes import mode
from .writes import next_stamp, storage_writes, was_written

_new: Any = object.__new__


class Op:
    """A function from arrays to an array, with its derivative.

    Subclasses write `compute(*arrays)` and `gradient(out_grad, node)`: given dL/d(output) as a tensor, return
    dL/d(input) for each of `node.inputs` as tensors (one, or a tuple; None where there is no derivative).
    Constructor arguments are attributes of the op; tensors come in the call.
    """

    makes: type[Value]
    differentiable = True

    def __call__(self, *inputs: Any) -> Any:
        recorder = mode.recorder
        try:
            if recorder is not None:
                data = recorder.compute(self, inputs)
            elif len(inputs) == 2:  # spelt out, since unpacking a list costs as much as adding two small arrays
                a, b = inputs
                data = self.compute(a.cached_data, b.cached_data)
            else:
                data = self.compute(*[x.cached_data for x in inputs])
            if not hasattr(data, "shape") and type(data) is not tuple:
                raise TypeError(
                    f"compute returned a {type(data).__name__}, wanted an array (a tuple of them, of a tuple op)"
                )
        except Exception as error:
            raise op_failure(self, inputs, error) from error
        value = _new(self.makes)
        value.cached_data = data
        value.op, value.inputs, value.requires_grad = None, (), False
        value.grad = value.notes = None
        value.stamp, value.written = next_stamp(), 0
        if mode.recording and self.differentiable:
            for x in inputs:
                if x.requires_grad:
                    value.op, value.inputs, value.requires_grad = self, inputs, True
                    break
        if mode.observer is not None:
            mode.observer.made(value, self, inputs)
        return value

    def compute(self, *arrays: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no compute(*arrays)")

    def gradient(self, out_grad: Any, node: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no gradient(out_grad, node)")

    def gradient_as_tuple(self, out_grad: Any, node: Any) -> tuple:
        """The rule's answer, one entry an input; zeros where the rule gave None."""
        return tuple(
            x.filled(0) if grad is None else grad
            for x, grad in zip(node.inputs, as_tuple(self.gradient(out_grad, node)), strict=True)
        )


class TensorOp(Op):
    """An op that makes a Tensor."""


class TensorTupleOp(Op):
    """An op that makes a TensorTuple."""


def as_tuple(grads: Any) -> tuple:
    return tuple(grads) if isinstance(grads, (tuple, list)) else (grads,)


class Value:
    """A node of the graph: what `op` made from `inputs`, or a leaf when `op` is None.

    `stamp` orders nodes by age; `written` is the stamp of the last change after creation, 0 if none.
    `notes` holds what few nodes have: hooks, retain_grad, the line that made it.
    """

    __slots__ = (
        "__weakref__",
        "cached_data",
        "grad",
        "inputs",
        "notes",
        "op",
        "requires_grad",
        "stamp",
        "written",
    )

    cached_data: Any
    grad: Any
    inputs: tuple[Value, ...]
    notes: dict[str, Any] | None
    op: Op | None
    requires_grad: bool
    stamp: int
    written: int

    def realize_cached_data(self) -> Any:
        """The live storage. Writing into it is not seen by the graph: see `detect_anomaly`."""
        return self.cached_data

    def is_leaf(self) -> bool:
        return self.op is None

    def cut(self) -> None:
        """Drop the graph below."""
        self.op, self.inputs = LetGo(), ()

    def let_go(self) -> None:
        """Drop the graph that was kept for differentiating this gradient again, if it is one."""

    def note(self, **notes: Any) -> None:
        self.notes = {**(self.notes or {}), **notes}

    def fits(self, grad: Any) -> bool:
        """Whether `grad` may be this value's gradient: same shape, and same dtype if that is a float."""
        raise NotImplementedError

    def filled(self, number: float) -> Any:
        """A constant of this value's shape, dtype and device."""
        raise NotImplementedError


class LetGo(Op):
    """Stands where a graph was let go, and says so when somebody asks for it."""

    def gradient(self, out_grad: Any, node: Any) -> Any:
        raise RuntimeError(
            "backward: this graph was let go (by retain_graph=False, or because a parameter in it was written to, "
            "as an optimizer step does); run the forward pass again"
        )


def find_topo_sort(node_list: Sequence[Value], stop: Any = ()) -> list[Value]:
    """All nodes that `node_list` depends on, inputs before users: depth-first post-order, inputs left to right.

    Does not look below the nodes in `stop`. Iterative, so that depth is bounded by memory alone.
    """
    order: list[Value] = []
    finished: dict[Value, bool] = {}
    stack = list(reversed(node_list))
    while stack:
        node = stack[-1]
        if node not in finished:
            finished[node] = False
            inputs = () if node in stop else node.inputs
            if inputs:
                stack += inputs[::-1]
                continue
        stack.pop()
        if not finished[node]:
            finished[node] = True
            order.append(node)
    return order


def reverse_pass(outputs: Sequence[Value], seeds: Sequence[Value], stop: Any = ()) -> Iterator[tuple[Value, Any]]:
    """Yield (node, dL/dnode), outputs first, each once it is complete; do not go below the nodes in `stop`."""
    pending: dict[Value, Any] = {}
    for output, seed in zip(outputs, seeds, strict=True):
        pending[output] = pending[output] + seed if output in pending else seed
    for node in reversed(find_topo_sort(outputs, stop)):
        grad = pending.pop(node, None)
        if grad is None:
            continue
        if node.notes is not None:
            grad = _call_hooks(node, grad)
        yield node, grad
        op = node.op
        if op is not None and node not in stop:
            _apply_rule(node, op, grad, pending)


def _apply_rule(node: Value, op: Op, out_grad: Any, pending: dict[Value, Any]) -> None:
    """Add what the op's rule gives for each input to `pending`, checked: one each, of exactly the input's shape and
    float dtype."""
    inputs = node.inputs
    for x in (node, *inputs):  # a rule may use the result as well as the arguments
        if x.written > node.stamp or (storage_writes and was_written(x, node.stamp)):
            raise written_since(op, None if x is node else inputs.index(x), x)
    given = op.gradient(out_grad, node)
    if given is None:
        raise TypeError(
            f"{type(op).__name__}.gradient returned None; return a gradient for each input (is `return` missing?)"
        )
    grads = as_tuple(given)
    if len(grads) != len(inputs):
        raise wrong_gradient(op, inputs, grads, None)
    for i, grad in enumerate(grads):
        if grad is not None:
            x = inputs[i]
            if not x.fits(grad):
                raise wrong_gradient(op, inputs, grads, i)
            if x.requires_grad:
                pending[x] = pending[x] + grad if x in pending else grad


def _call_hooks(node: Value, grad: Any) -> Any:
    """The gradient as the node's hooks leave it."""
    for hook in list((node.notes or {}).get("hooks", {}).values()):
        before = grad.written
        replaced = hook(grad)
        if grad.written != before:
            raise RuntimeError("hook: it wrote into the gradient, which others share; return a new tensor instead")
        if replaced is not None and not (isinstance(replaced, Value) and node.fits(replaced)):
            raise wrong_hook(node, replaced)
        grad = grad if replaced is None else replaced
    return grad
