"""The graph and the reverse pass. Names no op and no array library.

An `Op` computes arrays from arrays and knows its derivative. Calling an op on tensors makes a `Value` that
remembers the op and its inputs: that is the whole graph. `reverse_pass` walks it backwards. Derivative rules
take and give tensors, so a derivative is a graph again and can be differentiated again.
Tensor's operators are attached in `ops/tensor_methods.py`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from .backend_selection import default_device, device_of
from .failures import op_failure, wrong_gradient
from .modes import Recording, enable_grad, get_default_dtype, mode
from .tensor_protocol import TensorMethods

LAZY_MODE = False  # the course's switch; needle computes every op at once

_next_stamp = count(1).__next__
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
        try:
            data = self.compute(*[x.cached_data for x in inputs])
        except Exception as error:
            raise op_failure(self, inputs, error) from error
        value = _new(self.makes)
        value.cached_data = data
        value.op, value.inputs, value.requires_grad = None, (), False
        value.grad = value.notes = None
        value.stamp, value.written = _next_stamp(), 0
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
        self.op, self.inputs = _LetGo(), ()

    def note(self, **notes: Any) -> None:
        self.notes = {**(self.notes or {}), **notes}

    def fits(self, grad: Any) -> bool:
        """Whether `grad` may be this value's gradient: same shape, and same dtype if that is a float."""
        raise NotImplementedError

    def filled(self, number: float) -> Any:
        """A constant of this value's shape, dtype and device."""
        raise NotImplementedError


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
        self.stamp, self.written = _next_stamp(), 0
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
        tensor.stamp, tensor.written = _next_stamp(), 0
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
        self.note(retains_grad=True)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook` with this tensor's complete gradient in every backward; what it returns takes the gradient's
        place (None: unchanged). Returns a function that removes the hook."""
        hooks = (self.notes or {}).get("hooks", {})
        key = object()
        hooks[key] = hook
        self.note(hooks=hooks)
        return lambda: hooks.pop(key, None)

    def fits(self, grad: Any) -> bool:
        mine, its = self.cached_data, grad.cached_data
        return its.shape == mine.shape and (its.dtype is mine.dtype or its.dtype == mine.dtype or mine.dtype.kind != "f")

    def filled(self, number: float) -> Tensor:
        return Tensor.make_const(self.device.full(self.shape, number, dtype=self.dtype))

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
        value.stamp, value.written = _next_stamp(), 0
        return value

    def fits(self, grad: Any) -> bool:
        pairs = zip(self.cached_data, grad.cached_data, strict=False)
        return len(self) == len(grad) and all(
            Tensor.make_const(mine).fits(Tensor.make_const(its)) for mine, its in pairs
        )

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
        return device.array(device_of(array).to_numpy(array), dtype)
    if isinstance(array, (list, tuple)) and any(isinstance(item, Value) for item in array):
        raise TypeError("Tensor: got a list of tensors, whose gradients would be lost; use ndl.stack(tensors, axis=0)")
    if dtype is None and isinstance(array, (float, list, tuple)) and get_default_dtype() is not None:
        made = (device or default_device()).array(array)
        return made.astype(get_default_dtype()) if made.dtype.kind == "f" else made
    return (device or default_device()).array(array, dtype)


# --- writing ---------------------------------------------------------------------------------------------------

_written_storage: dict[int, tuple[Any, int]] = {}


def mark_written(tensor: Tensor, in_place: bool = False) -> None:
    """Note that `tensor` changed: by a new array, or `in_place`, which all views of its storage see.

    A graph that read the old values can no longer be differentiated, so the one its `.grad` holds is let go.
    """
    tensor.written = _next_stamp()
    if in_place:
        storage = tensor.device.storage(tensor.cached_data)
        _written_storage[id(storage)] = (storage, tensor.written)
    if type(tensor.grad) is LazyGradient:
        tensor.grad.let_go()


def was_written(tensor: Value, since: int) -> bool:
    if tensor.written > since:
        return True
    if not _written_storage or isinstance(tensor, TensorTuple):
        return False
    storage = device_of(tensor.cached_data).storage(tensor.cached_data)
    return _written_storage.get(id(storage), (None, 0))[1] > since


# --- the reverse pass ------------------------------------------------------------------------------------------


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
            if node not in stop:
                stack.extend(reversed(node.inputs))
        else:
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
            for x, part in zip(node.inputs, _apply_rule(node, op, grad), strict=True):
                if part is not None and x.requires_grad:
                    pending[x] = pending[x] + part if x in pending else part


def _apply_rule(node: Value, op: Op, out_grad: Any) -> tuple:
    """What the op's rule gives for each input, checked: one each, of exactly the input's shape and float dtype."""
    inputs = node.inputs
    for x in inputs:
        if x.written > node.stamp or (_written_storage and was_written(x, node.stamp)):
            raise RuntimeError(_written_message(op, inputs.index(x), x))
    grads = as_tuple(op.gradient(out_grad, node))
    if len(grads) != len(inputs):
        raise wrong_gradient(op, inputs, grads, None)
    for i, grad in enumerate(grads):
        if grad is not None and not (isinstance(grad, Value) and inputs[i].fits(grad)):
            raise wrong_gradient(op, inputs, grads, i)
    return grads


def _written_message(op: Op, index: int, x: Any) -> str:
    return (
        f"backward: argument {index} of {type(op).__name__} (shape {getattr(x, 'shape', None)}) was written to after "
        "the forward pass read it (.data =, item assignment, in-place operator or optimizer step), so its gradient "
        "would be wrong; run the forward pass again, or write to a copy"
    )


def _call_hooks(node: Value, grad: Any) -> Any:
    for hook in list((node.notes or {}).get("hooks", {}).values()):
        replaced = hook(grad)
        if replaced is None:
            continue
        if not isinstance(replaced, Value) or not node.fits(replaced):
            raise ValueError(
                f"gradient hook: wanted a Tensor of shape {node.shape} and dtype {node.dtype}, got "  # type: ignore[attr-defined]
                f"{getattr(replaced, 'shape', type(replaced).__name__)} {getattr(replaced, 'dtype', '')}"
            )
        grad = replaced
    return grad


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
            "or it was made under no_grad() or by detach())"
        )
    recipe = _Recipe(output, seed_for(output, out_grad))
    before, mode.recording = mode.recording, create_graph
    try:
        if mode.observer is not None:
            mode.observer.before_backward(output)
        kept = [(node, grad) for node, grad in recipe.run() if keeps_grad(node)]
    finally:
        mode.recording = before
    if not create_graph:
        kept = [(node, LazyGradient.promise(grad, recipe, i)) for i, (node, grad) in enumerate(kept)]
    if mode.observer is not None:
        mode.observer.after_backward(output, recipe.seed, kept)
    for node, grad in kept:
        node.grad = _sum(node.grad, grad, create_graph) if accumulate and node.grad is not None else grad
    if not retain_graph:
        recipe.let_go()


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


class _LetGo(Op):
    """Stands where a graph was let go, and says so when somebody asks for it."""

    def gradient(self, out_grad: Any, node: Any) -> Any:
        raise RuntimeError(
            "backward: this graph was let go (by retain_graph=False, or because a parameter in it was written to, "
            "as an optimizer step does); run the forward pass again"
        )


class _Recipe:
    """How a set of gradients came about: enough to compute them again, this time with a graph of their own."""

    def __init__(self, output: Tensor | None, seed: Any):
        self.output = output
        self.seed = seed
        self.made: list[Any] | None = None

    def run(self) -> Iterator[tuple[Value, Any]]:
        assert self.output is not None
        return reverse_pass([self.output], [self.seed])

    def rebuild(self, index: int) -> Any:
        """The index-th gradient as a recorded tensor."""
        if self.output is None:
            _LetGo().gradient(None, None)
        if self.made is None:
            with enable_grad():
                self.made = [grad for node, grad in self.run() if keeps_grad(node)]
        return self.made[index]

    def let_go(self) -> None:
        """Cut the output off its graph, which is freed unless somebody else holds a part of it."""
        if self.output is not None:
            self.output.cut()
        self.output = self.made = None


class LazyGradient(Tensor):
    """A `.grad`: its numbers are there; its graph is rebuilt when somebody differentiates it."""

    __slots__ = ("_index", "_recipe")

    @staticmethod
    def promise(grad: Tensor, recipe: _Recipe, index: int) -> LazyGradient:
        tensor = _new(LazyGradient)
        tensor.cached_data = grad.cached_data
        tensor.requires_grad = True
        tensor.grad = tensor.notes = None
        tensor.stamp, tensor.written = _next_stamp(), 0
        tensor._recipe, tensor._index = recipe, index
        return tensor

    def _graph(self) -> Value:
        if isinstance(self._recipe, _Recipe):
            self._recipe = self._recipe.rebuild(self._index)
        return self._recipe

    @property  # type: ignore[override]
    def op(self) -> Op | None:
        return self._graph().op

    @property  # type: ignore[override]
    def inputs(self) -> tuple[Value, ...]:
        return self._graph().inputs

    def cut(self) -> None:
        self._recipe = _Recipe(None, None)

    def let_go(self) -> None:
        if isinstance(self._recipe, _Recipe):
            self._recipe.let_go()


def __getattr__(name: str) -> Any:
    """TENSOR_COUNTER: how many Values are alive, counted when asked so that making one costs nothing more."""
    if name == "TENSOR_COUNTER":
        return sum(isinstance(thing, Value) for thing in gc.get_objects())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
