"""One recorded call: the function runs as it is, and what it did becomes a Variant."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy

from ..autograd import Tensor
from ..backend_numpy import CPUDevice
from .effects import changes, stepped
from .errors import JitError, UnseenArray
from .guards import Reached, Watch, reached
from .ir import Graph, Node, ordered
from .live_numbers import is_traced_number, numbers_function
from .recorder import Lift, Recorder
from .spent import SPENT, SpentGradient
from .tracing import Traced
from .trees import altered, flatten, opaque, refuse_iterators, unflatten
from .variant import Plumbing, Variant, linked
from .watch import names_in


def value_of(tensor: Any) -> Any:
    """The array behind a tensor that holds a traced one."""
    return tensor.cached_data.value


def by_identity(leaf: Any) -> bool:
    """Whether a leaf of the arguments is an object such as a Module, neither array nor number nor text."""
    return not isinstance(leaf, (Tensor, numpy.ndarray, numpy.generic, int, float, str, bytes, type(None)))


DRAWS = {
    "beta", "bytes", "choice", "choices", "expovariate", "exponential", "gamma", "gauss", "getrandbits", "integers",
    "normal", "normalvariate", "permutation", "poisson", "rand", "randint", "randn", "random", "random_sample",
    "randrange", "sample", "seed", "shuffle", "standard_normal", "triangular", "uniform",
}  # fmt: skip


class Before:
    """How all was before a recording, to be put back where it is refused."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.stream = CPUDevice().random_state()
        found = [optimizer for _, optimizer in recording.reached.optimizers]
        self.states = [(o, {p: dict(slots) for p, slots in o.state.items()}) for o in found]

    def put_back(self) -> None:
        for tensor, lift in self.recording.recorder.lifts.items():
            tensor.cached_data = lift.traced
            lift.traced.node, lift.traced.value = lift.node, lift.array
        for tensor, grad in self.recording.grads_before.items():
            tensor.grad = grad
        for optimizer, states in self.states:
            optimizer.state = states
        self.recording.recorder.counted.clear()
        CPUDevice().set_random_state(self.stream)
        random.setstate(self.recording.recorder.python_stream)


class Recording:
    """The recording of one call of `function`; `run` gives its result, `variant` what later calls can run."""

    def __init__(self, function: Callable, leaves: list[Any], structure: Any, keep_grads: bool, backend: str):
        self.function, self.leaves, self.structure = function, leaves, structure
        self.keep_grads, self.backend = keep_grads, backend
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
        """The function's result. Tensors hold what they would hold after an eager call, also where the user's code
        raises; where the recording is refused, all is as before."""
        before = Before(self)
        try:
            self._lift_all()
            return self._recorded()
        except JitError:
            before.put_back()
            raise
        except BaseException:
            self._settle_grads()
            self._settle_fresh(reached(self.function, self.args, self.kwargs))
            raise
        finally:
            self._release()
            self.recorder.over = True

    def _lift_all(self) -> None:
        for i, leaf in enumerate(self.leaves):
            if isinstance(leaf, Tensor):
                self.recorder.lift(leaf, f"argument {i}")
        for tensor, path in self.reached.tensors.items():
            if not isinstance(tensor, SpentGradient):
                self.recorder.lift(tensor, path)
        self.grads_before = {tensor: tensor.grad for tensor in self.recorder.lifts}

    def _recorded(self) -> Any:
        lent = [self._lent(i, leaf) for i, leaf in enumerate(self.leaves)]
        args, kwargs = unflatten(self.structure, lent)
        with self.recorder, self.watch:
            result = self.function(*args, **kwargs)
        if self.recorder.refusal is not None:  # and the function caught it
            raise self.recorder.refusal
        after = reached(self.function, self.args, self.kwargs)
        self._refuse_changes(after, altered(self.structure, lent, (args, kwargs)))
        self._refuse_writes(lent)
        self._refuse_draws()
        if "grad" in self._named():  # then Python may have looked whether there is one
            self.guarded_grads.update(self.recorder.lifts)
        return self._finish(result, after)

    def _lent(self, i: int, leaf: Any) -> Any:
        """What the function gets for the i-th leaf of its arguments."""
        if isinstance(leaf, numpy.ndarray):
            node = Node("input", (), (), leaf.shape, leaf.dtype, f"argument {i}")
            self.recorder.nodes.append(node)
            return Traced(self.recorder, numpy.asarray(leaf), node)
        if isinstance(leaf, float):  # NumPy's float64 is one, and a number like any other to needle's ops
            return self.recorder.number(float(leaf), lambda leaves: float(leaves[i]), f"argument {i}")
        return leaf

    def _refuse_writes(self, lent: list[Any]) -> None:
        for i, leaf in enumerate(lent):
            if type(leaf) is Traced and leaf.node.kind != "input":
                raise JitError(
                    f"jit: the function writes into argument {i}, a NumPy array, which a replay would not do; return "
                    "the new array, or give a Tensor that is assigned through .data"
                )

    def _refuse_changes(self, after: Reached, of_arguments: str) -> None:
        changed = changes(self.reached, after)
        changed += [of_arguments] if of_arguments else []
        changed += [f"{type(schedule).__name__} (it was stepped)" for schedule in stepped(self.reached)]
        if changed:
            raise JitError(
                f"jit: while recording, the function changed {'; '.join(changed)}. A later call would not do so again. "
                "Return the value, hold it in a Tensor that is assigned through .data, or do this outside"
            )

    def _refuse_draws(self) -> None:
        """An error where the function drew random numbers itself; where other threads run too, it must name a function
        that does."""
        self.recorder.watch_streams()
        alone = threading.active_count() == 1
        of_numpy = self.recorder.foreign_draws and (alone or not self._named().isdisjoint(DRAWS))
        if of_numpy or self.recorder.python_stream != random.getstate():
            raise UnseenArray(
                "jit: the function draws NumPy's or Python's own random numbers, of which a recording would keep those "
                "of now. Use ndl.rand, ndl.randn or an ndl.Generator, or give the numbers as arguments"
            )

    def _named(self) -> set[str]:
        """The globals and attributes that the user's code names which ran."""
        found = [names_in(code) for code, _ in self.watch.ran]
        return {name for names in found for name in (*names.globals, *names.attributes)}

    # --- what it came to ---

    def _finish(self, result: Any, after: Reached) -> Any:
        leaves, structure = flatten(result)
        refuse_iterators(leaves)
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
        self.variant = Variant(graph, self.plumbing, structure, destinations, self.backend)
        return made

    def _result(self, leaf: Any, outputs: list[Node]) -> str:
        """The text of a leaf of the result."""
        if isinstance(leaf, Tensor) and leaf in self.recorder.lifts:
            return self._place_of(leaf)
        if isinstance(leaf, Tensor):
            outputs.append(self.recorder.lifted(leaf).node)
            return f"{'linked' if leaf.requires_grad else 'const'}(made[{len(outputs) - 1}])"
        if type(leaf) is Traced:
            outputs.append(leaf.node)
            return f"made[{len(outputs) - 1}]"
        if is_traced_number(leaf):
            return f"{self.plumbing.name(numbers_function([leaf]), 'N')}(leaves)[0]"
        if opaque(leaf) and not self.reached.holds(leaf) and not any(leaf is x for x in self.leaves):
            raise JitError(
                f"jit: the function returns a {type(leaf).__name__}, which each later call would give again, the same "
                "object; return tensors, numbers and texts, in lists, tuples, dicts or dataclasses"
            )
        return self.plumbing.name(leaf, "K")

    def _plain(self, leaf: Any) -> Any:
        """A leaf of the result, with arrays and numbers in place of traced ones."""
        if isinstance(leaf, Tensor):
            if leaf in self.recorder.lifts or type(leaf.cached_data) is not Traced:
                return leaf
            array = self._own(leaf.cached_data.value)
            return linked(array) if leaf.requires_grad else Tensor.make_const(array)
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

    def _settle_grads(self) -> None:
        """Give gradients that were made while recording their arrays."""
        for tensor in self.recorder.lifts:
            grad = tensor.grad
            if grad is None or isinstance(grad, SpentGradient) or grad in self.recorder.lifts:
                continue
            if type(grad.cached_data) is Traced:
                tensor.grad = Tensor.make_const(value_of(grad))

    def _release(self) -> None:
        """Every tensor that was lifted gets an array again: the one that an eager call would have left."""
        for tensor, op in self.recorder.outside:
            tensor.op = op
        for tensor, lift in self.recorder.lifts.items():
            now = tensor.cached_data
            if tensor in self.recorder.counted or self._changed(lift):
                tensor.cached_data = now.value if type(now) is Traced else now
            else:
                tensor.cached_data = lift.array

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
                self.plumbing.reads.append(f"array(leaves[{int(node.label.removeprefix('argument '))}])")

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
