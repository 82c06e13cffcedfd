"""Derivatives as functions of functions.

f takes tensors, arrays, numbers, or lists, tuples and dicts of them, and gives a tensor. What comes back is a
constant unless something it depends on (an argument, or a tensor that f closes over) requires a gradient: then it
is recorded, so that transforms nest and mix with `backward`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import copy
from functools import wraps
from typing import Any

from .autograd import (
    LazyGradient,
    Tensor,
    TensorOp,
    Value,
    as_tuple,
    find_topo_sort,
    reverse_pass,
    seed_for,
)
from .backend_selection import default_device
from .failures import describe
from .modes import enable_grad, is_grad_enabled, mode, no_grad
from .ops import stack
from .writes import next_stamp

__all__ = ["checkpoint", "custom_gradient", "grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]


class Alias(TensorOp):
    """The same values under a new node: where an inner derivative stops and an outer one goes on."""

    def compute(self, a):
        return a

    def gradient(self, out_grad, node):
        return out_grad


# --- arguments -------------------------------------------------------------------------------------------------


def flatten(tree: Any) -> list[Any]:
    """The leaves of nested lists, tuples and dicts, in order."""
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in flatten(tree[key])]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in flatten(part)]
    return [tree]


def unflatten(tree: Any, leaves: Any) -> Any:
    """`tree` with its leaves replaced by those of the iterator, in order; containers keep their types."""
    if isinstance(tree, dict):
        replaced = copy(tree)  # a defaultdict keeps its factory
        for key in tree:
            replaced[key] = unflatten(tree[key], leaves)
        return replaced
    if isinstance(tree, (list, tuple)):
        parts = [unflatten(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(leaves)


def _variable(x: Any) -> Tensor:
    """A fresh place to differentiate at, tied to x where x itself is being differentiated."""
    if isinstance(x, Tensor) and x.requires_grad and is_grad_enabled():
        return Alias()(x)
    return Tensor(x) if not isinstance(x, Tensor) else Tensor.make_const(x, requires_grad=True)


def _zeros_or(grad: Any, x: Tensor) -> Tensor:
    return x.filled(0) if grad is None else grad


def _pull(output: Tensor, seed: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """dL/d(inputs) for dL/d(output) = seed; recorded only where somebody outside can ask for more."""
    stop = set(inputs)
    outside = is_grad_enabled() and (seed.requires_grad or _reaches_outside(output, stop))
    with enable_grad() if outside else no_grad():
        if mode.observer is not None:
            mode.observer.before_backward(output)
        found = {node: grad for node, grad in reverse_pass([output], [seed], stop) if node in stop}
    if mode.observer is not None:
        mode.observer.after_backward(output, seed, list(found.items()))
    return [_zeros_or(found.get(x), x) for x in inputs]


def _reaches_outside(output: Tensor, inputs: set[Tensor]) -> bool:
    """Whether something other than the fresh inputs can be differentiated below `output`."""
    nodes = find_topo_sort([output], inputs)
    return any(isinstance(x.op, Alias) if x in inputs else (x.requires_grad and x.op is None) for x in nodes)


def _call(f: Callable, args: Sequence[Any]) -> tuple[Any, list[Tensor]]:
    """f at fresh variables in place of the leaves of `args`, recorded."""
    inputs = [_variable(leaf) for leaf in flatten(args)]
    with enable_grad():
        output = f(*unflatten(tuple(args), iter(inputs)))
    return output, inputs


def _checked(output: Any, name: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"{name}: the function must return a Tensor, got {type(output).__name__}")
    return output


def _positions(argnums: int | Sequence[int], count: int, name: str) -> list[int]:
    """The argument numbers counted from 0, checked against the `count` arguments that came."""
    wanted = as_tuple(argnums)
    for i in wanted:
        if not isinstance(i, int) or isinstance(i, bool):
            raise TypeError(f"{name}: argnums must be an integer or several, got {i!r}")
        if not -count <= i < count:
            raise ValueError(f"{name}: argnums names argument {i}, but the function was given {count} arguments")
    positions = [i % count for i in wanted]
    if len(set(positions)) < len(positions):
        raise ValueError(f"{name}: argnums {tuple(wanted)} names an argument twice; name each once")
    return positions


def _require_one(x: Any, what: str) -> None:
    if isinstance(x, (dict, list, tuple)):
        raise TypeError(f"{what} must be one Tensor, array or number, got a {type(x).__name__}")


def _direction(v: Any, like: Tensor, what: str, whose: str) -> Tensor:
    """v as a constant or Tensor of the shape of `like`."""
    if v is None or isinstance(v, dict):
        raise TypeError(f"{what} is a {type(v).__name__}, wanted a Tensor of shape {like.shape}, {whose}")
    if not isinstance(v, Tensor):
        v = Tensor(v, device=like.device, dtype=like.dtype, requires_grad=False)
    if v.shape != like.shape:
        raise ValueError(f"{what} has shape {v.shape}, wanted {like.shape}, {whose}")
    return v


# --- transforms ------------------------------------------------------------------------------------------------


def vjp(f: Callable, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple]]:
    """(f(*primals), pull): pull(v) gives vᵀ·∂f/∂x for each x in primals, for v of f's shape."""
    output, inputs = _call(f, primals)
    output = _checked(output, "vjp")

    def pull(v: Any) -> tuple:
        seed = seed_for(output, _direction(v, output, "vjp: v", "the shape of the function's result"))
        return unflatten(tuple(primals), iter(_pull(output, seed, inputs)))

    return _out(output, inputs), pull


def _out(output: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """f's value for the caller: a constant unless something outside can be differentiated."""
    outside = is_grad_enabled() and _reaches_outside(output, set(inputs))
    return output if outside else output.detach()


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that gives (f(...), its gradient) with respect to argument `argnums` (several: a tuple).

    f must return a one-element Tensor; with has_aux a pair (that, anything), and the value is that pair.
    Gradients have the structure, shapes and dtypes of the arguments. A negative argnums counts from the last argument.
    """
    return _value_and_grad(f, argnums, has_aux, "value_and_grad")


def _value_and_grad(f: Callable, argnums: int | Sequence[int], has_aux: bool, name: str) -> Callable:
    @wraps(f)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple:
        positions = _positions(argnums, len(args), name)
        aux: list[Any] = []

        def of_wanted(*some: Any) -> Any:
            full = list(args)
            for position, value in zip(positions, some, strict=True):
                full[position] = value
            result = f(*full, **kwargs)
            if has_aux:
                result, extra = _pair(result, name)
                aux.append(extra)
            return result

        chosen = [args[i] for i in positions]
        output, inputs = _call(of_wanted, chosen)
        output = _checked(output, name)
        if output.size != 1:
            raise ValueError(f"{name}: the function must return one number, got {output.shape}; use jacobian or vjp")
        grads = unflatten(tuple(chosen), iter(_pull(output, seed_for(output, None), inputs)))
        value = _out(output, inputs)
        return (value, aux[0]) if has_aux else value, grads if isinstance(argnums, (tuple, list)) else grads[0]

    return with_gradient


def _pair(result: Any, name: str) -> tuple[Any, Any]:
    if not (isinstance(result, (tuple, list)) and len(result) == 2):
        met = f"{len(result)} values" if isinstance(result, (tuple, list)) else type(result).__name__
        raise TypeError(f"{name}: with has_aux the function must return a pair (value, aux), got {met}")
    return result[0], result[1]


def grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradient of f (see `value_and_grad`); with has_aux the pair (gradient, aux)."""
    return _grad(f, argnums, has_aux, "grad")


def _grad(f: Callable, argnums: int | Sequence[int], has_aux: bool, name: str) -> Callable:
    both = _value_and_grad(f, argnums, has_aux, name)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def jvp(f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(f(*primals), ∂f/∂x · tangents): the derivative in one direction.

    Forward mode from two reverse ones: v -> vᵀJ is linear in v, and its own transpose is J·t.
    """
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (list, tuple)):
            met = type(given).__name__
            raise TypeError(f"jvp: {what} must be a list or tuple, one entry an argument, got {met}; write [x]")
    tangents = flatten(tangents)
    if len(tangents) != len(flatten(primals)):
        raise ValueError(f"jvp: got {len(tangents)} tangents for {len(flatten(primals))} primals, wanted one each")
    output, inputs = _call(f, primals)
    output = _checked(output, "jvp")
    pairs = zip(tangents, inputs, strict=True)
    directions = [_direction(t, x, "jvp: a tangent", "the shape of its primal") for t, x in pairs]
    v = Tensor.make_const(output.filled(0), requires_grad=True)
    with enable_grad():
        rows = {node: g for node, g in reverse_pass([output], [v], set(inputs)) if node in set(inputs)}
    outside = is_grad_enabled() and (_reaches_outside(output, set(inputs)) or any(t.requires_grad for t in directions))
    used = [(rows[x], t) for x, t in zip(inputs, directions, strict=True) if x in rows]
    with enable_grad() if outside else no_grad():
        passed = reverse_pass([row for row, _ in used], [t for _, t in used], {v})
        found = {node: g for node, g in passed if node is v}
    return _out(output, inputs), _zeros_or(found.get(v), output)


def jacobian(f: Callable, argnums: int = 0) -> Callable:
    """A function that gives ∂f/∂x for the tensor argument `argnums`: shape f's shape + x's shape."""
    return _jacobian(f, argnums, "jacobian")


def _jacobian(f: Callable, argnums: int, name: str) -> Callable:
    @wraps(f)
    def rows(*args: Any) -> Tensor:
        _require_one(argnums, f"{name}: argnums")
        (position,) = _positions(argnums, len(args), name)
        _require_one(args[position], f"{name}: argument {position}")

        def of_one(x: Any) -> Any:
            return f(*args[:position], x, *args[position + 1 :])

        output, (x,) = _call(of_one, [args[position]])
        output = _checked(output, name)
        pulled = [_pull(output, seed, [x])[0] for seed in _unit_seeds(output)]
        if not pulled:
            return Tensor.make_const(x.device.zeros(*output.shape, *x.shape, dtype=x.dtype))
        return stack(pulled, axis=0).reshape((*output.shape, *x.shape))

    return rows


def _unit_seeds(output: Tensor) -> list[Tensor]:
    seeds = []
    for i in range(output.size):
        seed = output.device.zeros(output.size, dtype=output.dtype)
        output.device.setitem(seed, i, 1)
        seeds.append(Tensor.make_const(seed.reshape(output.shape)))
    return seeds


def hessian(f: Callable, argnums: int = 0) -> Callable:
    """A function that gives the second derivatives of a one-number f: shape x's shape twice."""
    return _jacobian(_grad(f, argnums, False, "hessian"), argnums, "hessian")


def hvp(f: Callable, x: Any, v: Any) -> Tensor:
    """Hessian of f at x times v, without the Hessian: two reverse passes (Pearlmutter, 1994)."""
    _require_one(x, "hvp: x")
    gradient, pull = vjp(_grad(f, 0, False, "hvp"), x)
    return pull(_direction(v, gradient, "hvp: v", "the shape of x"))[0]


# --- rules of the user -----------------------------------------------------------------------------------------


class CustomGradient(TensorOp):
    """A user's forward with a user's rule."""

    def __init__(self, function: Callable):
        self.function = function
        self.rule: Callable | None = None

    def compute(self, *arrays):
        with no_grad():
            output, self.rule = self._run([Tensor.make_const(a) for a in arrays])
        return output.cached_data

    def _run(self, tensors):
        result = self.function(*tensors)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise TypeError("the function must return (output, rule), where rule(out_grad) gives the gradients")
        return _checked(result[0], "custom_gradient"), result[1]

    def gradient(self, out_grad, node):
        rule = self.rule
        if is_grad_enabled():  # so that the rule's own dependence on the inputs is recorded
            _, rule = self._run(node.inputs)
        assert rule is not None
        return rule(out_grad)


def custom_gradient(function: Callable) -> Callable[..., Tensor]:
    """Decorator: `function(*tensors)` returns (output, rule), and rule(out_grad) the gradient of each tensor.

    The ops inside are not differentiated; for second derivatives the rule must be made of ops.
    """

    @wraps(function)
    def apply(*tensors: Any) -> Tensor:
        inputs = [x if isinstance(x, Tensor) else Tensor(x, requires_grad=False) for x in tensors]
        return CustomGradient(function)(*inputs)

    return apply


class Checkpoint(TensorOp):
    """f without its inner graph: run again in the backward pass (arXiv:1604.06174). Random draws are repeated.

    Inputs: the `count` arguments of f, then the tensors `outside` that f closes over.
    """

    def __init__(self, f: Callable, count: int):
        self.f, self.count = f, count
        self.before: Any = None
        self.result: Any = None
        self.outside: list[Value] = []

    def compute(self, *arrays):
        result, self.result = self.result, None
        return result

    def gradient(self, out_grad, node):
        args = node.inputs[: self.count]
        if not is_grad_enabled():
            args = [Tensor.make_const(x, x.requires_grad) for x in args]
        born = next_stamp()
        with enable_grad():
            own = [Alias()(x) if x.requires_grad else x for x in args]
            output = self._again(own, out_grad.device)
            output, outside = _unhooked(output, own, self.outside)
        found: dict[Value, Any] = dict.fromkeys([*own, *outside])
        for x, grad in reverse_pass([output], [out_grad], found):
            if x in found:
                found[x] = grad
            elif x.op is None and x.requires_grad and x.stamp < born:
                raise _other_tensor(x)
        return tuple(found[x] for x in (*own, *outside))

    def _again(self, own, device):
        """f once more, with the random numbers of its first run."""
        now = device.random_state()
        device.set_random_state(self.before)
        try:
            return self.f(*own)
        finally:
            device.set_random_state(now)


def _other_tensor(x: Value) -> RuntimeError:
    return RuntimeError(
        f"checkpoint: called again for the gradient, f used a tensor ({describe([x])}) that it had not used before, "
        "whose gradient would be lost; f must do the same in each call"
    )


def _unhooked(output: Tensor, own: Sequence[Value], outside: Sequence[Value]) -> tuple[Tensor, list[Value]]:
    """`output` and `outside`, with new nodes in place of the outside tensors that have hooks.

    A hook wants the complete gradient: that of the pass around this one, not the part that comes from here.
    """
    hooked = {x: Alias()(x) for x in outside if x.notes and x.notes.get("hooks")}
    ends = {*own, *outside}
    if hooked:
        for node in find_topo_sort([output], ends):
            if node not in ends and any(x in hooked for x in node.inputs):
                if isinstance(node, LazyGradient):
                    raise RuntimeError(
                        "checkpoint: f calls backward on a tensor that has a hook; use grad in f instead"
                    )
                node.inputs = tuple(hooked.get(x, x) for x in node.inputs)
    return hooked.get(output, output), [hooked.get(x, x) for x in outside]


def checkpoint(f: Callable, *args: Tensor) -> Tensor:
    """f(*args), keeping only the arguments: what happens inside is computed again when gradients are wanted.

    Trades time for memory. f must do the same when called again: draws from the device's own random numbers are
    repeated, those of an `init.Generator` are not. Tensors that f closes over get their gradients too, also those that
    f makes in its first call and keeps; what it makes anew in each call gets none.
    Raises RuntimeError where f, called again, uses a tensor that it had not used before.
    """
    inputs = [x if isinstance(x, Tensor) else Tensor(x, requires_grad=False) for x in args]
    if not is_grad_enabled():
        return f(*inputs)
    op = Checkpoint(f, len(inputs))
    op.before = default_device().random_state()
    op.result, older, made = _first_run(f, inputs)
    op.outside = older + [x for x in (ref() for ref in made) if x is not None]
    return op(*inputs, *op.outside)


def _first_run(f: Callable, inputs: Sequence[Tensor]) -> tuple[Any, list[Value], list[weakref.ref]]:
    """(f's array, the older tensors that it depends on, the leaves that f made), all of which require gradients.

    The leaves are held weakly: only those that f keeps are still there when its graph is gone.
    """
    born = next_stamp()
    own = {Tensor.make_const(x, x.requires_grad): None for x in inputs}  # not a set: in order
    output = _checked(f(*own), "checkpoint")
    nodes = [x for x in find_topo_sort([output], _Older(born)) if x.requires_grad and x not in own]
    older = [x for x in nodes if x.stamp < born]
    made = [weakref.ref(x) for x in nodes if x.stamp > born and x.op is None]
    return output.cached_data, older, made


class _Older:
    """The set of all nodes made before a moment."""

    def __init__(self, stamp: int):
        self.stamp = stamp

    def __contains__(self, node: Value) -> bool:
        return node.stamp < self.stamp
