"""One recorded call: the function runs as it is, and what it did becomes a Variant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ..autograd import Tensor
from .effects import changes, stepped
from .errors import JitError
from .guards import Reached, Watch, reached
from .ir import Graph, Node, ordered
from .live_numbers import is_traced_number, numbers_function
from .recorder import Lift, Recorder
from .spent import SPENT, SpentGradient
from .tracing import Traced
from .trees import altered, flatten, unflatten
from .variant import Plumbing, Variant


def value_of(tensor: Any) -> Any:
    """The array behind a tensor that holds a traced one."""
    return tensor.cached_data.value


def by_identity(leaf: Any) -> bool:
    """Whether a leaf of the arguments is an object such as a Module, neither array nor number nor text."""
    return not isinstance(leaf, (Tensor, numpy.ndarray, numpy.generic, int, float, str, bytes, type(None)))


class Recording:
    """The recording of one call of `function`; `run` gives its result, `variant` what later calls can run."""

    def __init__(self, function: Callable, leaves: list[Any], structure: Any, keep_grads: bool):
        self.function, self.leaves, self.structure, self.keep_grads = function, leaves, structure, keep_grads
        # Arrays among the arguments are others at each call; objects are guarded like what the function holds.
        self.args, self.kwargs = unflatten(structure, [leaf if by_identity(leaf) else None for leaf in leaves])
        self.recorder = Recorder()
        self.reached = reached(function, self.args, self.kwargs)
        self.watch = Watch()
        self.grads_before: dict[Tensor, Any] = {}
        self.variant: Variant | None = None
        self.plumbing = Plumbing()
        self.notes: list[str] = []
        self.guarded_grads: set[Tensor] = set()  # those of which it matters whether they have a .grad at the start

    def run(self) -> Any:
        """The function's result. Tensors hold what they would hold after an eager call, also when it raises."""
        recorder = self.recorder
        for i, leaf in enumerate(self.leaves):
            if isinstance(leaf, Tensor):
                recorder.lift(leaf, f"argument {i}")
        for tensor, path in self.reached.tensors.items():
            if not isinstance(tensor, SpentGradient):
                recorder.lift(tensor, path)
        self.grads_before = {tensor: tensor.grad for tensor in recorder.lifts}
        lent = [self._lent(i, leaf) for i, leaf in enumerate(self.leaves)]
        args, kwargs = unflatten(self.structure, lent)
        done = False
        try:
            with recorder, self.watch:
                result = self.function(*args, **kwargs)
            done = True
            after = reached(self.function, self.args, self.kwargs)
            self._refuse_changes(after, altered(self.structure, lent, (args, kwargs)))
            return self._finish(result, after)
        finally:
            self._release(done)

    def _lent(self, i: int, leaf: Any) -> Any:
        """What the function gets for the i-th leaf of its arguments."""
        if type(leaf) is numpy.ndarray:
            node = Node("input", (), (), leaf.shape, leaf.dtype, f"argument {i}")
            self.recorder.nodes.append(node)
            return Traced(self.recorder, leaf, node)
        if type(leaf) is float:
            return self.recorder.number(leaf, lambda leaves: leaves[i], f"argument {i}")
        return leaf

    def _refuse_changes(self, after: Reached, of_arguments: str) -> None:
        changed = changes(self.reached, after)
        changed += [of_arguments] if of_arguments else []
        changed += [f"{type(schedule).__name__} (it was stepped)" for schedule in stepped(self.reached)]
        if changed:
            raise JitError(
                f"jit: while recording, the function changed {'; '.join(changed)}. A later call would not do so again. "
                "Return the value, hold it in a Tensor that is assigned through .data, or do this outside"
            )

    # --- what it came to ---

    def _finish(self, result: Any, after: Reached) -> Any:
        leaves, structure = flatten(result)
        outputs: list[Node] = []
        self.plumbing.wanted = [self._result(leaf, outputs) for leaf in leaves]
        self._states(outputs)
        self._grads(outputs)
        fresh = self._settle_fresh(after)
        made = unflatten(structure, [self._plain(leaf) for leaf in leaves])
        if fresh:
            self.notes.append(f"made {fresh} tensor(s) that last, such as an optimizer's state: not to be replayed")
            return made
        graph = self._graph(outputs)
        self._reads(graph)
        self.plumbing.counters = [(self._place_of(step), n) for step, n in self.recorder.counted.items()]
        destinations = self._destinations(graph)
        self.plumbing.finish()
        self.variant = Variant(graph, self.plumbing, structure, destinations)
        return made

    def _result(self, leaf: Any, outputs: list[Node]) -> str:
        """The text of a leaf of the result."""
        if isinstance(leaf, Tensor) and leaf in self.recorder.lifts:
            return self._place_of(leaf)
        if isinstance(leaf, Tensor) or type(leaf) is Traced:
            outputs.append(leaf.node if type(leaf) is Traced else self.recorder.lifted(leaf).node)
            text = f"made[{len(outputs) - 1}]"
            return text if type(leaf) is Traced else f"const({text})"
        if is_traced_number(leaf):
            return f"{self.plumbing.name(numbers_function([leaf]), 'N')}(leaves)[0]"
        return self.plumbing.name(leaf, "K")

    def _plain(self, leaf: Any) -> Any:
        """A leaf of the result, with arrays and numbers in place of traced ones."""
        if isinstance(leaf, Tensor):
            if leaf in self.recorder.lifts or type(leaf.cached_data) is not Traced:
                return leaf
            return Tensor.make_const(self._own(leaf.cached_data.value))
        if type(leaf) is Traced:
            return self._own(leaf.value)
        return leaf.value if is_traced_number(leaf) else leaf

    def _own(self, array: Any) -> Any:
        """The array in memory of its own, as a replay gives it."""
        lent = array.base is not None or any(array is lift.array for lift in self.recorder.lifts.values())
        return numpy.array(array) if lent or any(array is leaf for leaf in self.leaves) else array

    def _states(self, outputs: list[Node]) -> None:
        """The tensors whose array is another one at the end, and which output that is."""
        for tensor, lift in self.recorder.lifts.items():
            if tensor not in self.recorder.counted and self._changed(lift):
                self._refuse_sharing(lift)
                outputs.append(tensor.cached_data.node)
                self.plumbing.states.append((self._place_of(tensor), len(outputs) - 1))

    def _changed(self, lift: Lift) -> bool:
        return lift.tensor.cached_data is not lift.traced or lift.traced.node is not lift.node

    def _refuse_sharing(self, lift: Lift) -> None:
        """An error where other tensors share the memory that was written to: they would have to change too."""
        if lift.tensor.cached_data is not lift.traced or not isinstance(lift.array, numpy.ndarray):
            return
        for other in self.recorder.lifts.values():
            if other is not lift and numpy.may_share_memory(other.array, lift.array):
                raise JitError(
                    f"jit: {lift.node.label} was written to, whose memory {other.node.label} shares; give one a copy"
                )

    def _grads(self, outputs: list[Node]) -> None:
        """What each tensor's .grad is to be after a call, where that was assigned."""
        self.guarded_grads |= self.recorder.grads_read
        for tensor, before in self.grads_before.items():
            now = tensor.grad
            if now is before:
                self.guarded_grads.add(tensor)
            elif now is not None and self._kept(tensor):
                outputs.append(self.recorder.lifted(now).node)
                self.plumbing.grads.append((self._place_of(tensor), f"const(made[{len(outputs) - 1}])"))
                tensor.grad = Tensor.make_const(value_of(now))
            else:
                tensor.grad = None if now is None else SPENT
                self.plumbing.grads.append((self._place_of(tensor), self.plumbing.name(tensor.grad, "K")))

    def _kept(self, tensor: Tensor) -> bool:
        """Gradients are kept that the function did not use up in an update itself."""
        return self.keep_grads or not self._changed(self.recorder.lifts[tensor])

    def _settle_fresh(self, after: Reached) -> int:
        """Give the tensors that were made while recording, and last, their arrays. How many there are."""
        fresh = [
            tensor
            for tensor in after.tensors
            if not isinstance(tensor, SpentGradient)
            and type(tensor.cached_data) is Traced
            and tensor not in self.recorder.lifts
        ]
        for tensor in fresh:
            tensor.cached_data = tensor.cached_data.value
        return len(fresh)

    def _graph(self, outputs: list[Node]) -> Graph:
        nodes = ordered(self.recorder.nodes, outputs)
        given = [node for kind in ("input", "number") for node in nodes if node.kind == kind]
        return Graph(given, outputs, nodes)

    def _release(self, done: bool) -> None:
        """Every tensor gets an array again: the one that an eager call would have left."""
        for tensor, lift in self.recorder.lifts.items():
            now = tensor.cached_data
            if tensor in self.recorder.counted or self._changed(lift):
                tensor.cached_data = now.value if type(now) is Traced else now
            else:
                tensor.cached_data = lift.array
            grad = tensor.grad
            if not done and grad is not None and not isinstance(grad, SpentGradient):
                if type(grad.cached_data) is Traced and grad not in self.recorder.lifts:
                    tensor.grad = Tensor.make_const(grad.cached_data.value)
        if not done:
            self._settle_fresh(reached(self.function, self.args, self.kwargs))

    # --- where inputs come from ---

    def _place_of(self, tensor: Tensor) -> str:
        """How a later call finds this tensor: among its arguments, as a gradient, or as the same object."""
        for i, leaf in enumerate(self.leaves):
            if leaf is tensor:
                return f"leaves[{i}]"
        for owner, grad in self.grads_before.items():
            if grad is tensor:
                return f"{self._place_of(owner)}.grad"
        return self.plumbing.name(tensor, "T")

    def _reads(self, graph: Graph) -> None:
        lifted = {id(lift.node): lift.tensor for lift in self.recorder.lifts.values()}
        numbers = {id(node): number for number, node in self.recorder.numbers.values()}
        for node in graph.inputs:
            if node.kind == "number":
                self.plumbing.numbers.append(numbers[id(node)])
            elif id(node) in lifted:
                self.plumbing.reads.append(f"{self._place_of(lifted[id(node)])}.cached_data")
            else:
                self.plumbing.reads.append(f"leaves[{int(node.label.removeprefix('argument '))}]")

    def _destinations(self, graph: Graph) -> dict[int, int]:
        """Outputs that may be written over the array that their tensor had."""
        places = {text: i for i, text in enumerate(self.plumbing.reads)}
        found = {}
        for text, place in self.plumbing.states:
            i, output = places.get(f"{text}.cached_data"), graph.outputs[place]
            if i is not None and (graph.inputs[i].shape, graph.inputs[i].dtype) == (output.shape, output.dtype):
                found[place] = i
                self.plumbing.donors.append(text)
        return found
