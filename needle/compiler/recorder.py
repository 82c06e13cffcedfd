"""Records what a function computes: lends it traced arrays, and takes them back as a graph.

A tensor that the function meets is *lifted*: for the time of the recording its array is a Traced one, whose node is an
input of the graph. What the tensors hold at the end, where it is not what they began with, is an output.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

from ..autograd import LazyGradient, Op, Tensor, TensorTuple
from ..backend_numpy import CPUDevice, recording_on
from ..modes import mode
from ..writes import next_stamp
from .errors import JitError, UnseenArray, ValueNeeded
from .ir import Node, evaluate
from .live_numbers import TracedNumber, is_traced_number
from .spent import SpentGradient
from .tracing import Memory, Traced, pattern_of, values_of
from .tracing_device import TracingDevice

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPPED = (HERE, os.path.dirname(numpy.__file__))


def stream() -> tuple:
    """Where NumPy's global stream is."""
    state: Any = numpy.random.get_state(legacy=False)
    parts = tuple(part.tobytes() if hasattr(part, "tobytes") else part for part in state["state"].values())
    return parts


class Outside(Op):
    """Stands for the op of a tensor that was computed before the recording, with a graph."""

    def gradient(self, out_grad: Any, node: Any) -> Any:
        raise JitError(
            "jit: backward() inside the function reaches a tensor that was computed outside, whose graph it would go "
            "on into; compute it inside, or detach() it"
        )


OUTSIDE = Outside()


@dataclass
class Lift:
    """A tensor whose array is a traced one for the time of the recording."""

    tensor: Tensor
    array: Any
    traced: Traced
    node: Node


class Recorder:
    """One recording. As a context manager it switches itself on for this thread, and off again."""

    def __init__(self) -> None:
        self.device = TracingDevice(self)
        self.nodes: list[Node] = []
        self.lifts: dict[Tensor, Lift] = {}
        self.numbers: dict[int, tuple[TracedNumber, Node]] = {}
        self.looked_at: dict[str, TracedNumber] = {}
        self.names: dict[str, str] = {}  # what a number is -> its name in the source
        self.counted: dict[Tensor, int] = {}
        self.grads_read: set[Tensor] = set()
        self.ops: list[Any] = []
        self.outside: list[tuple[Tensor, Any]] = []  # tensors with a graph from before, and their ops
        self.started = next_stamp()
        self.over = False
        self.stream, self.python_stream = stream(), random.getstate()
        self.thread = threading.get_ident()
        self.refusal: JitError | None = None  # the first that was raised; the user's code may catch it
        self.foreign_draws = False  # whether somebody else drew from NumPy's global stream

    @property
    def off(self) -> bool:
        """Whether traced arrays are to act as those that they hold: when all is over, and in other threads."""
        return self.over or threading.get_ident() != self.thread

    def __enter__(self) -> Recorder:
        mode.recorder = self
        recording_on(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        mode.recorder = None
        recording_on(None)

    # --- nodes ---

    def make(self, kind: str, operands: Any, options: tuple = (), memory: Memory | None = None) -> Traced:
        """A traced array computed by one node from operands: traced arrays and numbers."""
        if self.off:
            return evaluate(Node(kind, (), options), values_of(tuple(operands)), self.draw)
        nodes, values = self._operands(operands)
        node = Node(kind, nodes, options, label=self._label(), line=self.place())
        return self._traced(node, evaluate(node, values, self.draw), memory)

    def call(self, function: Callable, args: Any, kwargs: Any, out: Any = None, label: str = "") -> Any:
        """What any function of arrays gives; each later call of the program will call it again."""
        if self.off:
            return function(*values_of(tuple(args)), **values_of(kwargs))
        if out is not None:
            raise ValueNeeded(f"jit: {function!r} with `out` cannot be recorded")
        found: list[Traced] = []
        pattern = (pattern_of(tuple(args), found), pattern_of(dict(kwargs), found))
        self._must_see(pattern)
        nodes, values = self._operands(found)
        node = Node("call", nodes, (function, pattern), label=label or self._label(), line=self.place())
        made = evaluate(node, values, self.draw)
        if isinstance(made, (tuple, list)) and made and all(isinstance(part, numpy.ndarray) for part in made):
            self.nodes.append(node)
            return type(made)(self._part(node, i, part) for i, part in enumerate(made))
        if not isinstance(made, (numpy.ndarray, numpy.generic)):
            raise ValueNeeded(f"jit: {function!r} gives a {type(made).__name__}, which a recording cannot hold")
        return self._traced(node, made, None)

    def _part(self, whole: Node, place: int, value: Any) -> Traced:
        return self._traced(Node("part", (whole,), (place,), label=whole.label, line=whole.line), value, None)

    def constant(self, value: Any) -> Traced:
        """A traced array that is the same at each call."""
        return self._traced(Node("constant", (), (value,), label=self._label(), line=self.place()), value, None)

    def random(self, method: Any, *args: Any) -> Traced:
        """Draws: anew at each call, in the order recorded."""
        node = Node("random", (), (method, args), label=self._label(), line=self.place())
        return self._traced(node, self.draw(method, args), None)

    def draw(self, method: Any, args: tuple) -> Any:
        self.watch_streams()
        drawn = method(*args) if callable(method) else getattr(CPUDevice(), method)(*args)
        self.stream = stream()
        return drawn

    def watch_streams(self) -> None:
        """Note whether NumPy's global stream moved on since it was last looked at."""
        self.foreign_draws |= self.stream != stream()

    def _traced(self, node: Node, value: Any, memory: Memory | None) -> Traced:
        value = numpy.asarray(value)
        node.shape, node.dtype = value.shape, value.dtype
        self.nodes.append(node)
        return Traced(self, value, node, memory)

    def _operands(self, operands: Any) -> tuple[tuple[Node, ...], tuple]:
        pairs = [self._operand(x) for x in operands]
        return tuple(node for node, _ in pairs), tuple(value for _, value in pairs)

    def _operand(self, x: Any) -> tuple[Node, Any]:
        if type(x) is Traced:
            if x.recorder is not self:
                raise JitError("jit: an array of an earlier recording was kept and is used again; return it instead")
            return x.node, x.value
        if is_traced_number(x):
            return self._number(x), x.value
        if isinstance(x, (bool, int, float)):
            return self._listed(Node("constant", (), (x,))), x
        if isinstance(x, numpy.generic):
            return self._listed(Node("constant", (), (x,), (), x.dtype)), x
        raise self.unseen(x)

    def _listed(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def _number(self, number: TracedNumber) -> Node:
        known = self.numbers.get(id(number))
        if known is None:
            known = self.numbers[id(number)] = (
                number,
                self._listed(Node("number", label=self._told(number), line=self.place())),
            )
        return known[1]

    def _told(self, number: TracedNumber) -> str:
        """What a number is made of, for whoever reads the graph."""
        labels = {name: label for label, name in self.names.items()}
        return ", ".join(dict.fromkeys(labels.get(name, name) for name in number.leaves))

    def _must_see(self, pattern: Any) -> None:
        """UnseenArray where the arguments of a call hold arrays that were not recorded."""
        if isinstance(pattern, numpy.ndarray):
            raise self.unseen(pattern)
        if is_traced_number(pattern):
            float(pattern)
        if isinstance(pattern, dict):
            pattern = list(pattern.values())
        if isinstance(pattern, (list, tuple)):
            for part in pattern:
                self._must_see(part)

    def unseen(self, x: Any) -> JitError:
        if not isinstance(x, numpy.ndarray):
            return ValueNeeded(f"jit: a {type(x).__name__} meets a recorded array; wanted arrays and numbers")
        return self.refused(
            UnseenArray(
                f"jit: {self.place()} uses a NumPy array of shape {x.shape} that is no argument of the jitted "
                "function and no tensor's. Its numbers of now would be kept for ever. Give it as an argument, or hold "
                "it in a Tensor"
            )
        )

    def refused(self, error: Any) -> Any:
        """The error, which also counts where the user's code catches it; inside an op it makes a barrier."""
        if not self.ops and self.refusal is None:
            self.refusal = error
        return error

    def _label(self) -> str:
        return type(self.ops[-1]).__name__ if self.ops else ""

    def place(self) -> str:
        """The user's line that is running."""
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(SKIPPED):
            frame = frame.f_back
        return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""

    # --- ops and tensors ---

    def compute(self, op: Any, inputs: tuple) -> Any:
        """What `op.compute` gives for the tensors' arrays; an op that asks for values runs as it is at each call."""
        arrays = [self.lifted(x) for x in inputs]
        self.ops.append(op)
        try:
            return op.compute(*arrays)
        except (ValueNeeded, UnseenArray, AttributeError, TypeError, NotImplementedError):
            self._must_see(list(vars(op).values()) if hasattr(op, "__dict__") else [])
            return self.call(op.compute, arrays, {}, label=type(op).__name__)
        finally:
            self.ops.pop()

    def lifted(self, x: Any) -> Any:
        """The traced array of a tensor, or those of a tuple."""
        data = x.cached_data
        if type(data) is Traced and data.recorder is self:
            return data
        if isinstance(x, TensorTuple):
            if any(type(part) is not Traced for part in data):
                raise JitError("jit: a TensorTuple from outside is used; give its tensors as arguments")
            return data
        return self.lift(x).traced

    def lift(self, tensor: Tensor, label: str = "") -> Lift:
        """Have the tensor hold a traced array until `release`."""
        known = self.lifts.get(tensor)
        if known is not None:
            return known
        array = tensor.cached_data
        if type(array) is Traced and array.recorder.over:  # somebody kept it from an earlier recording
            array = array.value
        if tensor.stamp > self.started:  # made while recording, around an array that was not
            raise self.unseen(numpy.asarray(array))
        if not isinstance(array, numpy.ndarray):
            if not isinstance(array, numpy.generic):
                raise JitError(
                    f"jit: {label or 'a tensor'} lives on {tensor.device}; jit compiles for NumPy's arrays alone"
                )
            array = numpy.asarray(array)
        node = Node("input", (), (), array.shape, array.dtype, label or f"tensor {len(self.lifts)}")
        self.nodes.append(node)
        traced = Traced(self, array, node)
        self.lifts[tensor] = Lift(tensor, array, traced, node)
        tensor.cached_data = traced
        if tensor.requires_grad and not isinstance(tensor, LazyGradient) and tensor.op is not None:
            self.outside.append((tensor, tensor.op))
            tensor.op = OUTSIDE
        grad = tensor.grad
        if grad is not None and not isinstance(grad, SpentGradient) and type(grad.cached_data) is not Traced:
            self.lift(grad, f"{label}.grad")
        return self.lifts[tensor]

    # --- numbers ---

    def number(self, value: float, at: Callable[[Any], float], label: str) -> TracedNumber:
        """A number that each call may give anew: `at` finds it then."""
        name = self._named(label)
        return TracedNumber(value, name, {name: at}, self.looked_at)

    def _named(self, what: str) -> str:
        return self.names.setdefault(what, f"n{len(self.names)}")

    def options(self, optimizer: Any, i: int, group: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The options of an optimizer's group, floats as numbers that are read at each call."""
        place = f"{type(optimizer).__name__} {self._named(f'optimizer {id(optimizer)}')}"

        def live(name: str, value: Any) -> Any:
            if type(value) is not float:
                return value
            return self.number(
                value, lambda leaves: optimizer.options_of(i, group)[name], f"{place}, group {i}, {name}"
            )

        return {name: live(name, value) for name, value in options.items()}

    def count(self, step: Tensor) -> TracedNumber:
        """Add one to a step counter; its new value as a number that is read at each call."""
        if step not in self.lifts and type(step.cached_data) is Traced:  # made in this recording
            start, counted = int(step.cached_data.value), 1
        else:
            start = int(self.lift(step).array)
            counted = self.counted[step] = self.counted.get(step, 0) + 1
        step.cached_data = self.constant(numpy.asarray(start + counted))
        label = f"step {self._named(f'step {id(step)}')}, {counted}"
        return self.number(start + counted, lambda leaves: int(step.cached_data) + counted, label)
