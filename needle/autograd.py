"""Tensor, and what `backward` leaves in `.grad`. The graph itself is in `graph.py`; operators are attached in
`ops/tensor_methods.py`.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .backend_selection import HOST, default_device, device_of
from .graph import LetGo, Op, TensorOp, TensorTupleOp, Value, as_tuple, find_topo_sort, reverse_pass
from .modes import Recording, enable_grad, get_default_dtype, mode
from .tensor_protocol import TensorMethods
from .writes import mark_written, next_stamp

__all__ = [
    "LAZY_MODE",
    "LazyGradient",
    "Op",
    "Tensor",
    "TensorOp",
    "TensorTuple",
    "TensorTupleOp",
    "Value",
    "as_tuple",
    "compute_gradient_of_variables",
    "find_topo_sort",
    "mark_written",
    "reverse_pass",
    "seed_for",
    "sum_node_list",
]

LAZY_MODE = False  # the course's switch; needle computes every op at once

_new: Any = object.__new__


class Tensor(Value, TensorMethods):
    """An n-dimensional array that remembers how it was computed.

    array: number, (nested) list, array or Tensor; copied, except from a Tensor of the same device and dtype,
    whose storage is shared. dtype None keeps NumPy's choice (Python floats: float64, or the default dtype where
    one was set). requires_grad: whether `backward` shall leave a gradient in `.grad`.
    Raises TypeError for what holds no numbers. Operators and methods: `ops/tensor_methods.py`.
    """

    __slots__ = ()
    grad: Tensor | None

    def __init__(self, array: Any, *, device: Any = None, dtype: Any = None, requires_grad: bool = True):
        self.cached_data = _as_array(array, device, dtype)
        self.op, self.inputs, self.requires_grad = None, (), requires_grad
        self.grad = self.notes = None
        self.stamp, self.written = next_stamp(), 0
        if mode.observer is not None:
            mode.observer.made(self, None, ())

    @staticmethod
    def make_from_op(op: Op, inputs: Sequence[Value]) -> Tensor:
        return op(*inputs)

    @staticmethod
    def make_const(data: Any, requires_grad: bool = False) -> Tensor:
        """A leaf over an array (not copied) or over a Tensor's storage."""
        tensor = _new(Tensor)
        tensor.cached_data = data.cached_data if isinstance(data, Tensor) else data
        tensor.op, tensor.inputs, tensor.requires_grad = None, (), requires_grad
        tensor.grad = tensor.notes = None
        tensor.stamp, tensor.written = next_stamp(), 0
        if mode.observer is not None:
            mode.observer.made(tensor, None, ())
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.cached_data.shape

    @property
    def dtype(self) -> Any:
        return self.cached_data.dtype

    @property
    def device(self) -> Any:
        return device_of(self.cached_data)

    @property
    def data(self) -> Tensor:
        """A detached tensor over the same storage. Assigning rebinds the storage (same dtype, any shape)."""
        return Tensor.make_const(self.cached_data)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.dtype != self.dtype:
            met = f"{value.dtype} Tensor" if isinstance(value, Tensor) else type(value).__name__
            raise AssertionError(f"Tensor.data: wanted a Tensor of dtype {self.dtype}, got {met}; use .astype(...)")
        self.cached_data = value.cached_data
        mark_written(self)

    def detach(self) -> Tensor:
        """The same storage as a constant leaf."""
        return Tensor.make_const(self.cached_data)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if not requires_grad and self.op is not None:
            raise ValueError("requires_grad_(False): this tensor is the result of an op; use detach()")
        self.requires_grad = requires_grad
        return self

    def retain_grad(self) -> None:
        """Have `backward` leave `.grad` here too, although this is not a leaf."""
        self._must_get_one("retain_grad")
        self.note(retains_grad=True)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook` with this tensor's complete gradient in every backward; what it returns takes the gradient's
        place (None: unchanged). Returns a function that removes the hook."""
        self._must_get_one("register_hook")
        if not callable(hook):
            raise TypeError(f"register_hook: wanted a function of the gradient, got a {type(hook).__name__}")
        hooks = (self.notes or {}).get("hooks", {})
        key = object()
        hooks[key] = hook
        self.note(hooks=hooks)
        return lambda: hooks.pop(key, None)

    def _must_get_one(self, who: str) -> None:
        if not self.requires_grad:
            raise RuntimeError(f"{who}: this tensor does not require a gradient, so it gets none; use requires_grad_()")

    def fits(self, grad: Any) -> bool:
        if not isinstance(grad, Tensor):
            return False
        mine, its = self.cached_data, grad.cached_data
        same = its.dtype is mine.dtype or its.dtype == mine.dtype or mine.dtype.kind != "f"
        return same and its.shape == mine.shape

    def filled(self, number: float) -> Tensor:
        array = self.cached_data
        return Tensor.make_const(device_of(array).full(array.shape, number, dtype=array.dtype))

    def backward(
        self,
        out_grad: Tensor | None = None,
        *,
        accumulate: bool = False,
        create_graph: bool = False,
        retain_graph: bool = True,
    ) -> None:
        """Put dL/dx into `.grad` of every leaf x below this tensor, where dL/d(this) is `out_grad` (ones if None).

        An earlier `.grad` is replaced; accumulate=True adds to it. Each `.grad` can be differentiated again (its
        graph is rebuilt on demand); create_graph=True records it at once. retain_graph=False lets the graph go.
        Raises RuntimeError where the graph was let go or a tensor in it was written to since.
        """
        run_backward(self, out_grad, accumulate, create_graph, retain_graph)


class TensorTuple(Value):
    """A tuple of arrays as one node; index it to get at the tensors."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.cached_data)

    def detach(self) -> TensorTuple:
        return TensorTuple.make_const(self.cached_data)

    @staticmethod
    def make_const(data: tuple) -> TensorTuple:
        value = _new(TensorTuple)
        value.cached_data = data
        value.op, value.inputs, value.requires_grad = None, (), False
        value.grad = value.notes = None
        value.stamp, value.written = next_stamp(), 0
        return value

    def fits(self, grad: Any) -> bool:
        if not isinstance(grad, TensorTuple) or len(self) != len(grad):
            return False
        pairs = zip(self.cached_data, grad.cached_data, strict=True)
        return all(Tensor.make_const(mine).fits(Tensor.make_const(its)) for mine, its in pairs)

    def filled(self, number: float) -> TensorTuple:
        parts = (Tensor.make_const(part).filled(number).cached_data for part in self.cached_data)
        return TensorTuple.make_const(tuple(parts))


TensorOp.makes = Tensor
TensorTupleOp.makes = TensorTuple


def _as_array(array: Any, device: Any, dtype: Any) -> Any:
    if isinstance(array, Tensor):
        array, device = array.cached_data, device or array.device
        if device == device_of(array) and (dtype is None or dtype == array.dtype):
            return array
        return _copied(array, device, dtype)
    if isinstance(array, TensorTuple) or (isinstance(array, (list, tuple)) and _holds_tensors(array)):
        raise TypeError("Tensor: got a list of tensors, whose gradients would be lost; use ndl.stack(tensors, axis=0)")
    if device is not None and not hasattr(device, "array"):
        raise TypeError(f"Tensor: device must be a device such as ndl.cpu(), got {device!r}")
    if dtype is None and isinstance(array, (float, list, tuple)) and get_default_dtype() is not None:
        made = (device or default_device()).array(array)
        return made.astype(get_default_dtype()) if made.dtype.kind == "f" else made
    if device_of(array) is not HOST:
        return _copied(array, device or device_of(array), dtype)
    return (device or default_device()).array(array, dtype)


def _copied(array: Any, device: Any, dtype: Any) -> Any:
    """A copy on `device` of an array that lies on one of ours, in its own dtype unless another is wanted."""
    source = device_of(array)
    values = array if source == device else source.to_numpy(array)
    return device.array(values, array.dtype if dtype is None else dtype)


def _holds_tensors(items: Any) -> bool:
    return any(isinstance(x, Value) or (isinstance(x, (list, tuple)) and _holds_tensors(x)) for x in items)


# --- backward ------------------------------------------------------------------------------------------------


def keeps_grad(node: Value) -> bool:
    return node.requires_grad and (node.op is None or bool(node.notes and node.notes.get("retains_grad")))


def seed_for(output: Tensor, out_grad: Any) -> Tensor:
    """dL/d(output): ones, or what the caller gave, checked."""
    if out_grad is None:
        return output.filled(1)
    if not isinstance(out_grad, Tensor):
        out_grad = Tensor(out_grad, device=output.device, dtype=output.dtype, requires_grad=False)
    if out_grad.shape != output.shape:
        raise ValueError(
            f"backward: out_grad has shape {out_grad.shape}, wanted {output.shape}, the shape of the tensor "
            "that backward() is called on"
        )
    return out_grad if output.fits(out_grad) else Tensor(out_grad, dtype=output.dtype, requires_grad=False)


def run_backward(output: Tensor, out_grad: Any, accumulate: bool, create_graph: bool, retain_graph: bool) -> None:
    if not output.requires_grad:
        raise RuntimeError(
            "backward: this tensor depends on nothing that requires a gradient (every input has requires_grad=False, "
            "or it was made under no_grad(), by detach() or by a function under ndl.jit)"
        )
    recipe = _Recipe(output, seed_for(output, out_grad))
    before, mode.recording = mode.recording, create_graph
    try:
        if mode.observer is not None:
            mode.observer.before_backward(output)
        kept = [(node, grad) for node, grad in recipe.run() if keeps_grad(node)]
    finally:
        mode.recording = before
    if len(kept) > 1 or out_grad is not None:
        kept = list(_without_sharing(kept, recipe.seed))
    if isinstance(output, LazyGradient):
        kept += output.untouched({node for node, _ in kept} | {output})
    if not create_graph:
        kept = [(node, LazyGradient.promise(grad, recipe, node)) for node, grad in kept]
    if mode.observer is not None:
        mode.observer.after_backward(output, recipe.seed, kept)
    if accumulate and mode.recorder is not None:
        mode.recorder.grads_read.update(node for node, _ in kept)
    for node, grad in kept:
        node.grad = _sum(node.grad, grad, create_graph) if accumulate and node.grad is not None else grad
    if not retain_graph:
        recipe.let_go()


def _without_sharing(kept: list[tuple[Value, Tensor]], seed: Tensor) -> Iterator[tuple[Value, Tensor]]:
    """Each gradient in memory of its own: a rule may hand on one array to several inputs, or the seed itself."""
    taken = {id(seed.device.storage(seed.cached_data))}
    for node, grad in kept:
        storage = id(grad.device.storage(grad.cached_data))
        yield node, _twin(grad) if storage in taken else grad
        taken.add(storage)


def _twin(tensor: Tensor) -> Tensor:
    """The same node of the graph over a copy of its numbers."""
    twin = Tensor.make_const(tensor.device.array(tensor.cached_data, tensor.dtype), tensor.requires_grad)
    twin.op, twin.inputs = tensor.op, tensor.inputs
    return twin


def _sum(old: Tensor, new: Tensor, create_graph: bool) -> Tensor:
    """old + new; a plain number unless recorded at once, so that many small steps do not hold many graphs."""
    with Recording(create_graph):
        return old + new


def compute_gradient_of_variables(output_tensor: Tensor, out_grad: Tensor) -> None:
    """Put the gradient of `output_tensor`, seeded with `out_grad`, into `.grad` of the leaves below it."""
    run_backward(output_tensor, out_grad, accumulate=False, create_graph=False, retain_graph=True)


def sum_node_list(node_list: Sequence[Any]) -> Any:
    """node_list[0] + node_list[1] + …, one node an addition."""
    total = node_list[0]
    for node in node_list[1:]:
        total = total + node
    return total


class _Recipe:
    """How a set of gradients came about: enough to compute them again, this time with a graph of their own."""

    def __init__(self, output: Tensor | None, seed: Any):
        self.output = output
        self.seed = seed
        self.made: dict[Value, Any] | None = None

    def run(self) -> Iterator[tuple[Value, Any]]:
        assert self.output is not None
        return reverse_pass([self.output], [self.seed])

    def rebuild(self, node: Value | None) -> Any:
        """The gradient of `node` as a recorded tensor."""
        if self.output is None:
            LetGo().gradient(None, None)
        if self.made is None:
            with enable_grad():
                self.made = {node: grad for node, grad in self.run() if keeps_grad(node)}
        if node not in self.made:
            raise RuntimeError("backward: the tensor whose gradient this is no longer requires one")
        return self.made[node]

    def let_go(self) -> None:
        """Cut the output off its graph, which is freed unless somebody else holds a part of it."""
        if self.output is not None:
            self.output.cut()
        self.output = self.made = None


class LazyGradient(Tensor):
    """A `.grad`: its numbers are there; its graph is rebuilt when somebody differentiates it."""

    __slots__ = ("_of", "_recipe")
    _of: weakref.ref[Value]  # weak, since the leaf holds its gradient
    _recipe: _Recipe

    @staticmethod
    def promise(grad: Tensor, recipe: _Recipe, node: Value) -> LazyGradient:
        tensor = _new(LazyGradient)
        tensor.cached_data = grad.cached_data
        tensor.requires_grad = True
        tensor.grad = tensor.notes = None
        tensor.stamp, tensor.written = next_stamp(), 0
        tensor._recipe, tensor._of = recipe, weakref.ref(node)
        return tensor

    def _graph(self) -> Value:
        return self._recipe.rebuild(self._of())

    def untouched(self, reached: set[Value]) -> list[tuple[Value, Tensor]]:
        """The leaves of the function that this is a gradient of, on which the gradient itself does not depend."""
        self._graph()
        return [(node, node.filled(0)) for node in self._recipe.made or () if node not in reached]

    @property
    def op(self) -> Op | None:  # type: ignore[override]
        return self._graph().op

    @property
    def inputs(self) -> tuple[Value, ...]:  # type: ignore[override]
        return self._graph().inputs

    def cut(self) -> None:
        self._recipe = _Recipe(None, None)

    def let_go(self) -> None:
        self._recipe.let_go()


def __getattr__(name: str) -> Any:
    """TENSOR_COUNTER: how many Values are alive, counted when asked so that making one costs nothing more."""
    if name == "TENSOR_COUNTER":
        return sum(issubclass(type(thing), Value) for thing in gc.get_objects())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
