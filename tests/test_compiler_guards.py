"""What a recorded function must find unchanged: each kind of change is seen and named, and nothing else is."""

from __future__ import annotations

import functools
import gc
import math
import operator
import random
import sys
import threading
import time
import weakref
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from types import MappingProxyType, ModuleType, SimpleNamespace

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.compiler.effects import stepped
from needle.compiler.errors import JitError
from needle.compiler.guards import Watch, changes, live_numbers, make_guard, reached
from needle.compiler.objects import same

SCALE = 2.0
SETTINGS = {"rate": 0.5, "sizes": [1, 2]}
CALLS = []


def helper(x, factor=3.0, *, shift=0.5):
    return x * factor + shift


def recorded(step, *args):
    """The guard of a call of `step`, as ndl.jit makes it."""
    before, watch = reached(step, args, {}), Watch()
    with watch:
        step(*args)
    assert changes(before, reached(step, args, {})) == []
    guard = make_guard(before, watch, args, {})
    assert guard() and guard() and guard.reason() == ""
    return guard


def reason(step, change, *args):
    """What the guard of `step` says once `change` has happened."""
    guard = recorded(step, *args)
    change()
    assert not guard()
    return guard.reason()


def changed_by(step, *args):
    before = reached(step, args, {})
    step(*args)
    return changes(before, reached(step, args, {}))


def module(**names):
    """A user's module that holds these names; functions among them run in it."""
    made = ModuleType("config")
    vars(made).update(names)
    return made


class Net(nn.Module):
    rate = 0.25

    def __init__(self, size=3):
        super().__init__()
        self.layers = [nn.Linear(size, size), nn.ReLU()]
        self.scale, self.history, self.limits = 2.0, [], {"low": -1.0}

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x * self.scale * self.rate + self.limits["low"]


X = ndl.Tensor(np.ones((2, 3), "float32"), requires_grad=False)


# --- closures, globals, defaults ---------------------------------------------------------------------------------


def test_a_closure_cell():
    lr = 0.1

    def step():
        return lr * 2

    def change():
        nonlocal lr
        lr = 0.2

    assert reason(step, change) == "closure cell lr was 0.1, is 0.2"


def test_a_closure_cell_that_was_empty():
    def step():
        return later if SCALE < 0 else None  # noqa: F821

    def change():
        nonlocal later
        later = 1

    assert reason(step, change) == "closure cell later was missing, is 1"
    later = 2


def test_a_closure_that_holds_another_function():
    def inner():
        return 1

    def step():
        return inner()

    def change():
        nonlocal inner
        inner = abs

    assert reason(step, change) == "closure cell inner was a function, is a builtin_function_or_method"


def test_a_function_in_a_closure_of_a_closure():
    factor = 2.0

    def outer():
        return inner()

    def inner():
        return factor

    def change():
        nonlocal factor
        factor = 3.0

    assert reason(outer, change) == "closure cell factor was 2.0, is 3.0"


VALUES = [
    (2.0, 3.0), (1, 1.0), (1, True), (0.0, -0.0), (0, False), (None, 0), ("a", "b"), ((1, 2), (1, 2.0)), (1 + 2j, 1.0),
    (float("nan"), 1.0), (b"a", "a"), (2.0, None), (np.float32(1), np.float64(1)), (slice(1), slice(2)),
    (np.dtype("f4"), np.dtype("f8")), (range(2), range(3)),
]  # fmt: skip


@pytest.mark.parametrize("was, now", VALUES, ids=repr)
def test_a_global_number_or_text(monkeypatch, was, now):
    def step():
        return SCALE

    monkeypatch.setitem(globals(), "SCALE", was)
    told = reason(step, lambda: monkeypatch.setitem(globals(), "SCALE", now))
    assert told == f"global SCALE was {was!r}, is {now!r}"


@pytest.mark.parametrize("value", [float("nan"), 1e300, "text" * 9, (1, (2.5, None)), np.float32("nan"), 10**30])
def test_an_equal_value_is_no_change(monkeypatch, value):
    def step():
        return SCALE

    twin = eval(repr(value), {"nan": math.nan, "np": np})
    monkeypatch.setitem(globals(), "SCALE", value)
    guard = recorded(step)
    monkeypatch.setitem(globals(), "SCALE", twin)
    assert guard() and guard.reason() == ""


def test_a_global_function_is_replaced(monkeypatch):
    def step(x):
        return helper(x)

    told = reason(step, lambda: monkeypatch.setitem(globals(), "helper", lambda x: x), X)
    assert told == "global helper is another function"


def test_a_global_of_a_function_that_is_called(monkeypatch):
    space = {"SIZE": 1, "__name__": "other"}
    exec("def far(): return SIZE", space)

    def step():
        return space["far"]()

    monkeypatch.setitem(globals(), "far", space["far"])
    assert reason(step, lambda: space.update(SIZE=2)) == "global SIZE was 1, is 2"


def test_a_global_that_goes(monkeypatch):
    def step():
        return SCALE

    assert reason(step, lambda: monkeypatch.delitem(globals(), "SCALE")) == "global SCALE was 2.0, is missing"


def test_a_global_that_hides_a_builtin(monkeypatch):
    def step():
        return max(1, 2)

    told = reason(step, lambda: monkeypatch.setitem(globals(), "max", min))
    assert told == "global max was not there, and is"


def test_a_default_argument(monkeypatch):
    def step(x):
        return helper(x)

    told = reason(step, lambda: monkeypatch.setattr(helper, "__defaults__", (4.0,)), X)
    assert told == "helper.__defaults__ was (3.0,), is (4.0,)"


def test_a_keyword_default(monkeypatch):
    def step(x):
        return helper(x)

    told = reason(step, lambda: monkeypatch.setitem(helper.__kwdefaults__, "shift", 1.0), X)
    assert told == "helper.__kwdefaults__['shift'] was 0.5, is 1.0"


def test_the_code_of_a_function(monkeypatch):
    def step(x):
        return helper(x)

    def other(x, factor=3.0, *, shift=0.5):
        return x

    told = reason(step, lambda: monkeypatch.setattr(helper, "__code__", other.__code__), X)
    assert told == "helper.__code__ is another code"


def test_a_function_that_did_not_run_may_change(monkeypatch):
    def unused():
        return CALLS

    def step():
        return unused if SCALE else unused()

    guard = recorded(step)
    monkeypatch.setitem(globals(), "CALLS", [1])
    assert guard()


def test_a_function_made_inside_the_step(monkeypatch):
    def step():
        double = [lambda: SCALE * 2]
        return [f() for f in double]

    told = reason(step, lambda: monkeypatch.setitem(globals(), "SCALE", 5.0))
    assert told == "global SCALE was 2.0, is 5.0"


def test_an_attribute_of_a_function():
    def rate():
        return rate.n

    rate.n = rate.m = 1.0
    step = lambda: rate()  # noqa: E731
    guard = recorded(step)
    rate.m = 2.0
    assert guard()
    assert reason(step, lambda: setattr(rate, "n", 2.0)) == "rate.n was 1.0, is 2.0"


def test_an_attribute_of_a_jitted_function():
    @ndl.jit
    def step(x):
        return x * step.n

    step.n = 2.0
    assert step(X).numpy()[0, 0] == 2.0
    step.n = 3.0
    assert step(X).numpy()[0, 0] == 3.0
    assert step.history == ["first call", "step.n was 2.0, is 3.0"]


def test_a_jitted_function_that_counts_is_refused():
    @ndl.jit
    def step(x):
        step.n += 1
        return x * 2.0

    step.n = 0
    with pytest.raises(JitError, match=r"step\.n \(was 0, is 1\)"):
        step(X)


# --- ways to call --------------------------------------------------------------------------------------------------


def test_a_bound_method():
    net = Net()
    assert reason(net.forward, lambda: setattr(net, "scale", 3.0), X) == "self.scale was 2.0, is 3.0"


def test_a_callable_object():
    net = Net()
    assert reason(net, lambda: setattr(net, "scale", 3.0), X) == "function.scale was 2.0, is 3.0"


def test_a_partial():
    settings = {"factor": 2.0}
    step = functools.partial(lambda x, settings: x * settings["factor"], settings=settings)
    told = reason(step, lambda: settings.update(factor=3.0), X)
    assert told == "function.keywords['settings']['factor'] was 2.0, is 3.0"


def test_a_partial_and_a_method_that_are_held():
    net, settings = Net(), {"factor": 2.0}
    held = SimpleNamespace(f=functools.partial(helper, factor=settings), g=net.forward)

    def step():
        return held.f, held.g

    guard = recorded(step)
    held.f, held.g = functools.partial(helper, factor=settings), net.forward  # new objects of the same meaning
    assert guard()
    held.g = Net().forward
    assert guard.reason() == "held is another Net"


def test_a_lambda_in_a_dict(monkeypatch):
    table = {"f": lambda: SCALE}

    def step():
        return table["f"]()

    told = reason(step, lambda: monkeypatch.setitem(globals(), "SCALE", 5.0))
    assert told == "global SCALE was 2.0, is 5.0"
    assert reason(step, lambda: table.update(f=lambda: 1)) == "table['f'] is another function"


def test_decorated_functions():
    factor = 2.0

    @ndl.no_grad()
    @functools.wraps(helper)
    def inner():
        return factor

    @functools.lru_cache
    def cached():
        return inner()

    def change():
        nonlocal factor
        factor = 3.0

    assert reason(lambda: cached(), change) == "closure cell factor was 2.0, is 3.0"


def test_an_object_among_the_arguments():
    net = Net()
    assert reason(lambda m, x: m(x), lambda: net.limits.update(low=0.0), net, X) == (
        "argument 0.limits['low'] was -1.0, is 0.0"
    )


# --- modules and objects of the user -------------------------------------------------------------------------------


def of_a_net(change):
    """What is said once a net, called `net`, has changed."""
    net = Net()

    def step(x):
        return net(x)

    return reason(step, lambda: change(net), X)


def a_linear(net):
    return net.layers[0]


NETS = [
    (lambda net: setattr(net, "scale", 3.0), "net.scale was 2.0, is 3.0"),
    (lambda net: setattr(net, "scale", 2), "net.scale was 2.0, is 2"),
    (lambda net: net.eval(), "net.training was True, is False"),
    (lambda net: setattr(a_linear(net), "training", False), "net.layers[0].training was True, is False"),
    (lambda net: setattr(a_linear(net), "weight", nn.Parameter(np.ones(3))), "net.layers[0].weight is another tensor"),
    (lambda net: setattr(a_linear(net), "weight", 1.0), "net.layers[0].weight was a tensor, is 1.0"),
    (lambda net: delattr(a_linear(net), "bias"), "net.layers[0] lost 'bias'"),
    (lambda net: setattr(a_linear(net), "forward", helper), "net.layers[0] gained 'forward'"),
    (lambda net: setattr(net, "forward", helper), "net gained 'forward'"),
    (lambda net: setattr(net, "rate", 1.0), "net gained 'rate'"),
    (lambda net: delattr(net, "scale"), "net.scale was 2.0, is missing"),
    (lambda net: net.layers.append(nn.ReLU()), "net.layers had 2 items, has 3"),
    (lambda net: net.layers.__setitem__(1, nn.Tanh()), "net.layers[1] was a ReLU, is a Tanh"),
    (lambda net: net.layers.reverse(), "net.layers[0] was a Linear, is a ReLU"),
    (lambda net: setattr(net, "layers", tuple(net.layers)), "net.layers was a list, is a tuple"),
    (lambda net: net.limits.update(low=0.0), "net.limits['low'] was -1.0, is 0.0"),
    (lambda net: net.limits.update(high=0.0), "net.limits had 1 items, has 2"),
    (lambda net: setattr(net, "train", helper), "net gained 'train'"),
    (lambda net: setattr(net, "__class__", type("Other", (Net,), {})), "net was a Net, is a Other"),
    (lambda net: setattr(net, "__dict__", dict(vars(net))), "the attributes of net were exchanged"),
    (lambda net: a_linear(net).weight.requires_grad_(False), "net.layers[0].weight.requires_grad was True, is False"),
    (lambda net: setattr(a_linear(net).weight, "grad", X), "net.layers[0].weight.grad was None, is a tensor"),
    (lambda net: a_linear(net).weight.register_hook(lambda g: g), "net.layers[0].weight has other hooks"),
    (
        lambda net: setattr(a_linear(net).weight, "data", ndl.Tensor(np.ones((3, 4), "float32"))),
        "net.layers[0].weight: shape (3, 3) became (3, 4)",
    ),
    (
        lambda net: setattr(a_linear(net).weight, "cached_data", np.ones((3, 3))),
        "net.layers[0].weight: dtype float32 became float64",
    ),
]  # fmt: skip


@pytest.mark.parametrize("change, text", NETS, ids=[text for _, text in NETS])
def test_a_change_in_a_module(change, text):
    assert of_a_net(change) == text


def test_new_numbers_of_the_same_form_are_no_change():
    net = Net()
    guard = recorded(lambda x: net(x), X)
    for _ in range(3):
        net.layers[0].weight.data = ndl.Tensor(np.zeros((3, 3), "float32"))
        assert guard() and guard() and guard.reason() == ""


def test_the_guard_does_not_hold_the_arrays():
    net = Net()
    guard = recorded(lambda x: net(x), X)
    array = weakref.ref(net.layers[0].weight.cached_data)
    assert guard() and array() is not None
    net.layers[0].weight.data = ndl.Tensor(np.zeros((3, 3), "float32"))
    assert array() is None


def test_what_no_code_names_may_change():
    net = Net()
    guard = recorded(lambda x: net(x), X)
    net.history.append(1.0)
    net.history, net.note, net.calls = [], "text", 3
    assert guard()


def test_with_getattr_every_attribute_counts():
    net = Net()

    def step(x):
        return net(x) * getattr(net, "".join(["sc", "ale"]))

    assert reason(step, lambda: net.history.append(1), X) == "net.history had 0 items, has 1"


def test_layers_that_only_parameters_finds():
    net = Net()
    net.others = [nn.Linear(2, 2)]
    told = reason(lambda: net.parameters(), lambda: net.others.append(nn.Linear(2, 2)))
    assert told == "net.others had 1 items, has 2"


def test_a_closure_of_a_property():
    factor = 2.0

    class Thing:
        @property
        def size(self):
            return factor

    thing = Thing()

    def change():
        nonlocal factor
        factor = 3.0

    assert reason(lambda: thing.size, change) == "closure cell factor was 2.0, is 3.0"


def test_numbers_of_two_types_differ_however_they_are_written():
    with np.printoptions(legacy="1.25"):
        assert repr(np.float64(1)) == "1.0" and not same(1.0, np.float64(1)) and same(1.0, float("1"))


def test_an_attribute_named_by_a_text():
    class Thing:
        factor = 1.0

    thing = Thing()
    thing.factor = 2.0
    look = ["factor"]
    guard = recorded(lambda: (look, "factor", thing))
    thing.factor = 3.0
    assert guard.reason() == "thing.factor was 2.0, is 3.0"


@pytest.mark.parametrize("path", ["scale", "limits.low"])
def test_an_attribute_that_an_attrgetter_names(path):
    net = SimpleNamespace(scale=1.0, limits=SimpleNamespace(low=1.0), other=1.0)
    get = operator.attrgetter(path)
    guard = recorded(lambda: get(net))
    net.other = 2.0
    assert guard()
    setattr(net.limits if "." in path else net, path.rpartition(".")[2], 2.0)
    assert guard.reason() == f"net.{path} was 1.0, is 2.0"


def test_an_attribute_that_a_format_names():
    net, format_map = SimpleNamespace(scale=1.0), str.format
    assert reason(lambda: format_map("{0.scale:.1f}", net), lambda: setattr(net, "scale", 2.0)) == (
        "net.scale was 1.0, is 2.0"
    )


def test_attributes_that_a_case_matches():
    class Point:
        __match_args__ = ("x", "y")

        def __init__(self, x, y):
            self.x, self.y, self.unused = x, y, 0

    point = Point(1.0, 2.0)

    def step():
        match point:
            case Point(_, b):
                return b

    guard = recorded(step)
    point.unused = 1
    assert guard()
    point.y = 3.0
    assert guard.reason() == "point.y was 2.0, is 3.0"
    assert reason(step, lambda: setattr(Point, "__match_args__", ("y", "x"))) == (
        "Point.__match_args__ was ('x', 'y'), is ('y', 'x')"
    )


def test_a_method_put_on_the_class(monkeypatch):
    net = Net()
    told = reason(lambda x: net(x), lambda: monkeypatch.setattr(Net, "forward", lambda self, x: x), X)
    assert told == "Net.forward is another function"


def test_a_method_added_to_the_class():
    class Own(Net):
        pass

    net = Own()
    told = reason(lambda x: net(x), lambda: setattr(Own, "__call__", lambda self, x: x), X)
    assert told.startswith("Own had ")


def test_an_attribute_of_the_class(monkeypatch):
    net = Net()
    told = reason(lambda x: net(x), lambda: monkeypatch.setattr(Net, "rate", 1.0), X)
    assert told == "Net.rate was 0.25, is 1.0"


def test_another_forward_on_a_layer_of_needle(monkeypatch):
    net = Net()
    told = reason(lambda x: net(x), lambda: monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x), X)
    assert told == "Linear.forward is another function"


def test_a_class_that_is_called():
    class Thing:
        size = 1

        def __init__(self):
            self.n = self.size

    assert reason(lambda: Thing(), lambda: setattr(Thing, "size", 2)) == "Thing.size was 1, is 2"


def test_slots():
    class Point:
        __slots__ = ("x", "y")

    point = Point()
    point.x = 1.0
    assert reason(lambda: (point.x, Point.y), lambda: setattr(point, "x", 2.0)) == "point.x was 1.0, is 2.0"
    assert reason(lambda: (point.x, Point.y), lambda: setattr(point, "y", 2.0)) == "point.y was missing, is 2.0"
    assert reason(lambda: (point.x, Point.y), lambda: delattr(point, "y")) == "point.y was 2.0, is missing"


def test_properties_and_their_parts(monkeypatch):
    class Thing:
        hidden = 2.0

        @property
        def size(self):
            return self.hidden * SCALE

    thing = Thing()

    def step():
        return thing.size

    assert reason(step, lambda: setattr(Thing, "hidden", 3.0)) == "Thing.hidden was 2.0, is 3.0"
    told = reason(step, lambda: monkeypatch.setitem(globals(), "SCALE", 3.0))
    assert told == "global SCALE was 2.0, is 3.0"
    assert reason(step, lambda: setattr(Thing, "size", 1)) == "Thing.size was a property, is 1"


class Touchy:
    """Runs nobody's code but its own, and complains when that is run."""

    def __init__(self):
        object.__setattr__(self, "own", 1.0)

    def complain(self, *_):
        raise AssertionError("the guard ran code of the user's")

    __getattr__ = __getattribute__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __repr__ = complain
    __class__ = __doc__ = property(complain)


class TouchyList(list):
    __getitem__ = __len__ = __iter__ = __eq__ = __bool__ = __repr__ = __contains__ = Touchy.complain


class TouchyDict(dict):
    __getitem__ = __len__ = __iter__ = __eq__ = __bool__ = __repr__ = keys = items = Touchy.complain


def test_no_code_of_the_user_runs():
    things = [Touchy(), TouchyList([1, 2]), TouchyDict(a=1)]

    def step():
        return things, "own", "items"  # texts may be names of attributes, so that these are looked at

    guard = recorded(step)
    dict.__setitem__(things[2], "a", 2)
    assert not guard() and guard.reason() == "things[2]['a'] was 1, is 2"
    dict.__setitem__(things[2], "a", 1)
    list.__setitem__(things[1], 0, 5)
    assert not guard() and guard.reason() == "things[1][0] was 1, is 5"
    list.__setitem__(things[1], 0, 1)
    object.__setattr__(things[0], "own", 2.0)
    assert not guard() and guard.reason() == "things[0].own was 1.0, is 2.0"
    things[0] = None
    assert not guard() and guard.reason() == "things[0] was a Touchy, is None"


# --- containers ----------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


class Settings(UserDict):
    pass


class Measured(array):
    """An array.array of the user's making."""

    def __new__(cls, items):
        return super().__new__(cls, "i", items)


CONTAINERS = [
    (lambda: [1, 2], lambda c: c.__setitem__(1, 3), "box[1] was 2, is 3"),
    (lambda: [1, 2], lambda c: c.append(3), "box had 2 items, has 3"),
    (lambda: [1, 2], lambda c: c.pop(), "box had 2 items, has 1"),
    (lambda: [[1], [2]], lambda c: c[1].__setitem__(0, 3), "box[1][0] was 2, is 3"),
    (lambda: [[1], [2]], lambda c: c.__setitem__(1, (2,)), "box[1] was a list, is (2,)"),
    (lambda: {"a": 1}, lambda c: c.update(a=True), "box['a'] was 1, is True"),
    (lambda: {"a": 1}, lambda c: c.update(b=2), "box had 1 items, has 2"),
    (lambda: {"a": 1}, lambda c: (c.clear(), c.update(b=1)), "box gained 'b' and lost 'a'"),
    (lambda: {"a": 1, "b": 2}, lambda c: c.update(a=c.pop("a")), "box has its keys in another order"),
    (lambda: {1: "a"}, lambda c: (c.clear(), c.update({True: "a"})), "box has its keys in another order"),
    (lambda: {(1, "x"): 5}, lambda c: c.update({(1, "x"): 6}), "box[(1, 'x')] was 5, is 6"),
    (lambda: OrderedDict(a=1, b=2), lambda c: c.move_to_end("a"), "box has its keys in another order"),
    (lambda: defaultdict(list, a=[1]), lambda c: c["a"].append(2), "box['a'] had 1 items, has 2"),
    (lambda: Counter("aab"), lambda c: c.update("a"), "box['a'] was 2, is 3"),
    (lambda: {1, 2}, lambda c: c.add(3), "box has other elements"),
    (lambda: {1, 2}, lambda c: (c.remove(1), c.add(1.0)), "box has other elements"),
    (lambda: deque([1, 2]), lambda c: c.rotate(), "box[0] was 1, is 2"),
    (lambda: (1, [2]), lambda c: c[1].append(3), "box[1] had 1 items, has 2"),
    (lambda: Pair([1], 2), lambda c: c.a.append(3), "box[0] had 1 items, has 2"),
    (lambda: [X, X], lambda c: c.__setitem__(1, None), "box[1] is another tensor"),
    (lambda: SimpleNamespace(a=1), lambda c: setattr(c, "a", 2), "box.a was 1, is 2"),
    (lambda: UserDict(k=1), lambda c: c.update(k=2), "box.data['k'] was 1, is 2"),
    (lambda: Settings(k=1), lambda c: c.update(k=2), "box.data['k'] was 1, is 2"),
    (lambda: UserList([1]), lambda c: c.append(2), "box.data had 1 items, has 2"),
    (lambda: ChainMap({}, {"k": 1}), lambda c: c.maps[1].update(k=2), "box.maps[1]['k'] was 1, is 2"),
    (lambda: ChainMap({}, {"k": 1}), lambda c: c.update(k=2), "box.maps[0] had 0 items, has 1"),
    (lambda: MappingProxyType({"k": [1]}), lambda c: c["k"].append(2), "box['k'] had 1 items, has 2"),
    (lambda: {"k": [1]}.values(), lambda c: next(iter(c)).append(2), "box['k'] had 1 items, has 2"),
    (lambda: bytearray(b"ab"), lambda c: c.append(1), "box has other elements"),
    (lambda: array("d", [1.0, 0.0]), lambda c: c.__setitem__(1, -0.0), "box has other elements"),
    (lambda: Measured([1, 2]), lambda c: c.__setitem__(1, 3), "box has other elements"),
    (
        lambda: {0.0: 1, X: 2},
        lambda c: (c.clear(), c.update({-0.0: 1, X: 2})),
        "box has its keys in another order",
    ),
]


@pytest.mark.parametrize("make, change, text", CONTAINERS, ids=[text for *_, text in CONTAINERS])
def test_a_change_in_a_container(make, change, text):
    box = make()
    assert reason(lambda: (box, "a"), lambda: change(box)) == text


def test_equal_bytes_in_their_place_are_no_change():
    box = SimpleNamespace(a=bytearray(b"ab"), b=array("d", [math.nan]))
    guard = recorded(lambda: (box.a, box.b))
    box.a, box.b = bytearray(b"ab"), array("d", [math.nan])
    assert guard() and guard.reason() == ""


def test_an_equal_list_in_its_place_is_no_change():
    net = Net()
    guard = recorded(lambda x: net(x), X)
    net.layers, net.limits = list(net.layers), {"low": -1.0}
    assert guard() and guard.reason() == ""


def test_a_list_that_is_found_twice():
    inner = [1]
    box = [inner, inner]

    def change():
        box[1] = [1]

    assert reason(lambda: box, change) == "box[1] is no longer box[0]"


def test_a_list_that_contains_itself():
    box: list = [1]
    box.append(box)
    assert reason(lambda: box, lambda: box.__setitem__(0, 2)) == "box[0] was 1, is 2"


def test_the_attributes_of_a_thread():
    box, seen = threading.local(), []
    box.a = 1
    guard = recorded(lambda: box.a)

    def elsewhere():
        box.a = 1
        seen.append(guard())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False] and guard()
    box.a = 2
    assert guard.reason() == "box.a was 1, is 2"


def test_objects_that_hold_each_other_in_a_long_chain():
    first = last = SimpleNamespace(value=0, before=None)
    for i in range(600):
        last.next = SimpleNamespace(value=i, before=last)
        last = last.next
    assert reason(lambda: (first.next.value, first.before), lambda: setattr(last, "value", -1)).endswith(
        "was 599, is -1"
    )


def test_the_items_of_large_lists_are_not_looked_at():
    data = list(range(20_000))
    found = reached(lambda: data, (), {})
    assert found.large == ["data"]
    guard = recorded(lambda: data)
    data[0] = 5
    assert guard()
    assert reason(lambda: data, lambda: data.append(1)) == "data had 20000 items, has 20001"


# --- modules of Python ---------------------------------------------------------------------------------------------


def test_an_attribute_of_a_module_of_the_user():
    config = module(SCALE=2.0, OTHER=1)
    step = lambda: config.SCALE  # noqa: E731
    assert reason(step, lambda: setattr(config, "SCALE", 3.0)) == "config.SCALE was 2.0, is 3.0"
    guard = recorded(step)
    config.OTHER = 2
    assert guard()


def test_a_module_in_a_module_and_a_function_in_it():
    inner = module(SIZE=[1, 2])
    exec("def size():\n    return SIZE", vars(inner))
    package = module(inner=inner)
    assert reason(lambda: package.inner.size(), lambda: inner.SIZE.append(3)).endswith("SIZE had 2 items, has 3")


def test_a_module_that_the_step_imports(monkeypatch):
    config = module(SCALE=2.0)
    monkeypatch.setitem(sys.modules, "a_config_of_mine", config)

    def step():
        import a_config_of_mine

        return a_config_of_mine.SCALE

    assert reason(step, lambda: setattr(config, "SCALE", 3.0)) == "a_config_of_mine.SCALE was 2.0, is 3.0"


def test_library_modules_are_not_looked_into():
    found = reached(lambda: (np.random, ndl.nn, math.pi, random), (), {})
    assert not found.arrays and not found.tensors and len(found.owners) < 8


# --- tensors and arrays --------------------------------------------------------------------------------------------


def test_tensors_are_named_by_where_they_are():
    net = Net()
    adam = ndl.optim.Adam(net.parameters())
    net(X).sum().backward()
    adam.step()
    found = reached(lambda: (adam, net), (X,), {})
    weight = net.layers[0].weight
    assert found.tensors[weight] == "net.layers[0].weight"
    assert found.tensors[adam.state[weight]["m"]] == "adam.state[net.layers[0].weight]['m']"
    assert found.tensors[X] == "argument 0"


def test_arrays_are_told():
    table, net = np.ones(3), Net()
    net.table = np.zeros(2)
    found = reached(lambda: (table, net), (), {})
    assert sorted((path, len(array)) for path, array in found.arrays) == [("net.table", 2), ("table", 3)]


def test_another_array():
    table = np.ones(3)

    def change():
        nonlocal table
        table = np.ones(3)

    assert reason(lambda: table, change) == "closure cell table is another ndarray"


@pytest.mark.parametrize("now", [5.0, -0.0])
def test_the_numbers_of_a_small_array(now):
    table = np.zeros(3)
    guard = recorded(lambda: table)
    table[1] = 0.0
    assert guard()
    table[1] = now
    assert not guard() and guard.reason() == "closure cell table is another ndarray"


def test_the_numbers_of_a_large_array_are_data():
    table = np.zeros(1001)
    guard = recorded(lambda: table)
    table[1] = 5.0
    assert guard()


def test_an_array_that_died_is_not_the_none_in_its_place():
    holder = SimpleNamespace(table=np.ones(3))

    def change():
        holder.table = None

    assert reason(lambda: holder.table, change) == "holder.table was a ndarray, is None"


def test_guards_do_not_keep_data_alive():
    holder = SimpleNamespace(table=np.ones(3), loader=ndl.data.DataLoader(ndl.data.NDArrayDataset(np.ones((4, 2))), 2))
    guard = recorded(lambda: (holder.table, holder.loader))
    table, loader = weakref.ref(holder.table), weakref.ref(holder.loader)
    holder.table = holder.loader = None
    assert not guard() and table() is None and loader() is None


def test_grads_that_do_not_matter():
    net = Net()
    step = lambda x: net(x)  # noqa: E731
    before, watch = reached(step, (X,), {}), Watch()
    with watch:
        step(X)
    guard = make_guard(before, watch, (X,), {}, grads=[net.layers[0].bias])
    net.layers[0].weight.grad = X
    assert guard()
    net.layers[0].bias.grad = X
    assert guard.reason() == "net.layers[0].bias.grad was None, is a tensor"


def test_the_state_before_the_recording_counts():
    w = ndl.Tensor([1.0, 2.0])

    def step():
        (w * w).sum().backward()

    before, watch = reached(step, (), {}), Watch()
    with watch:
        step()
    guard = make_guard(before, watch, (), {})
    assert guard.reason() == "w.grad was None, is a tensor"
    w.grad = None
    assert guard()


# --- optimizers and schedules --------------------------------------------------------------------------------------


def trained(**options):
    """(net, optimizer, step) after one step of Adam."""
    net = Net()
    optimizer = ndl.optim.Adam(net.parameters(), **options)

    def step(x):
        optimizer.reset_grad()
        net(x).sum().backward()
        optimizer.step()

    step(X)
    return net, optimizer, step


def test_floats_of_an_optimizer_are_read_live():
    _, optimizer, step = trained(lr=0.1)
    guard = recorded(step, X)
    for lr, weight_decay in [(0.2, 0.0), (0.0, 0.1)]:  # whether one is 0 is asked where it steers Python
        optimizer.lr, optimizer.weight_decay = lr, weight_decay
        assert guard() and guard.reason() == ""
    found = live_numbers(reached(step, (X,), {}))
    assert sorted(name for _, name in found) == ["beta1", "beta2", "eps", "lr", "weight_decay"]
    assert all(group is optimizer.param_groups[0] for group, _ in found)


GROUPS = [
    ("lr", 1, "optimizer.param_groups[0]['lr'] was 0.01, is 1"),
    ("extra", 1, "optimizer.param_groups[0] had 6 items, has 7"),
]


@pytest.mark.parametrize("name, value, text", GROUPS)
def test_an_option_of_another_kind(name, value, text):
    _, optimizer, step = trained()
    assert reason(step, lambda: optimizer.param_groups[0].update({name: value}), X) == text


def test_a_flag_of_an_optimizer():
    net = Net()
    optimizer = ndl.optim.SGD(net.parameters(), momentum=0.9)
    told = reason(lambda: optimizer.step(), lambda: setattr(optimizer, "nesterov", True))
    assert told == "optimizer.param_groups[0]['nesterov'] was False, is True"


def test_other_parameters_and_groups():
    net, optimizer, step = trained()
    group = optimizer.param_groups[0]
    assert reason(step, lambda: group["params"].pop(), X) == "optimizer.param_groups[0]['params'] had 2 items, has 1"
    group["params"].append(ndl.Tensor([1.0]))
    told = reason(step, lambda: group["params"].__setitem__(1, net.layers[0].bias), X)
    assert told == "optimizer.param_groups[0]['params'][1] is another tensor"
    told = reason(step, lambda: optimizer.add_param_group({"params": [ndl.Tensor([1.0])]}), X)
    assert told == "optimizer.param_groups had 1 items, has 2"
    told = reason(step, lambda: optimizer.param_groups.__setitem__(0, dict(group)), X)
    assert told == "optimizer.param_groups[0] is another dict"


def test_other_state():
    _, optimizer, step = trained()
    told = reason(step, lambda: optimizer.load_state_dict(optimizer.state_dict()), X)
    assert told == "optimizer.state is another dict"
    slots = next(iter(optimizer.state.values()))
    told = reason(step, lambda: slots.update(m=ndl.zeros(3, 3)), X)
    assert told == "optimizer.state holds other tensors"
    m = slots["m"]
    told = reason(step, lambda: setattr(m, "data", ndl.zeros(2)), X)
    assert told == "optimizer.state[net.layers[0].weight]['m']: shape (3, 3) became (2,)"


def test_a_schedule_may_go_on():
    _, optimizer, step = trained()
    schedule = ndl.optim.StepLR(optimizer, step_size=1, gamma=0.5)
    guard = recorded(lambda x: (schedule, step(x)), X)
    schedule.step()
    assert guard()


def test_a_schedule_that_is_stepped_inside_is_told():
    _, optimizer, step = trained()
    schedule = ndl.optim.StepLR(optimizer, step_size=1, gamma=0.5)

    def inside():
        schedule.step()

    before = reached(inside, (), {})
    assert stepped(before) == []
    inside()
    assert changes(before, reached(inside, (), {})) == [] and stepped(before) == [schedule]


# --- what a recording changes --------------------------------------------------------------------------------------


def test_a_counter():
    net = Net()
    net.calls = 0

    def step():
        net.calls += 1

    assert changed_by(step) == ["net.calls (was 0, is 1)"]


def test_a_step_of_an_optimizer_is_no_change():
    net, optimizer, step = trained()
    assert changed_by(step, X) == []
    fresh = ndl.optim.Adam(net.parameters())

    def first(x):
        net(x).sum().backward()
        fresh.step()

    assert changed_by(first, X) == []


def test_running_statistics_are_no_change():
    norm = nn.BatchNorm1d(3)
    assert changed_by(lambda x: norm(x), X) == []


def things():
    net, losses, table, seen, count = Net(), [], {}, set(), 0

    def rebind():
        nonlocal count
        count += 1

    def shared():
        net.layers[0].weight = nn.Parameter(np.ones((3, 3)))

    def make_global():
        global MADE_HERE
        MADE_HERE = 1

    return [
        (lambda: losses.append(1.0), "losses (0 items, now 1)"),
        (lambda: table.update(a=1), "table['a'] (new)"),
        (lambda: seen.add(1), "seen (other elements)"),
        (rebind, "count (was 0, is 1)"),
        (shared, "net.layers[0].weight (was a tensor, is another tensor)"),
        (make_global, "MADE_HERE (new)"),
        (lambda: setattr(net, "last", X), "net.last (new)"),
        (lambda: net.__dict__.pop("scale"), "net.scale (was 2.0, is missing)"),
        (lambda: net.eval(), "net.training (was True, is False)"),
        (lambda: setattr(net, "rate", 1), "net.rate (new)"),
        (lambda: net.layers.reverse(), "net.layers[0] (was a Linear, is a ReLU)"),
        (lambda: net.layers[0].requires_grad_(False), "net.layers[0].weight.requires_grad (was True, is False)"),
    ]


@pytest.mark.parametrize("i", range(12))
def test_what_a_replay_would_not_do_is_told(i):
    step, text = things()[i]
    try:
        found = changed_by(step)
    finally:
        globals().pop("MADE_HERE", None)
    assert text in found


def test_options_set_inside_are_told():
    _, optimizer, _ = trained()

    def step():
        optimizer.lr = 0.5

    assert changed_by(step) == ["optimizer.param_groups[0]['lr'] (was 0.01, is 0.5)"]


def test_equal_values_in_the_same_place_are_no_change():
    net = Net()

    def step():
        net.scale, net.limits = 2.0, {"low": -1.0}

    assert changed_by(step) == []


def test_draws_are_told():
    rng, old, plain = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
    assert changed_by(lambda: rng.random()) == ["rng: numbers were drawn from it"]
    assert changed_by(lambda: old.rand()) == ["old: numbers were drawn from it"]
    assert changed_by(lambda: plain.random()) == ["plain: numbers were drawn from it"]
    assert changed_by(lambda: (rng, old, plain)) == []


@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: (i for i in range(5)), lambda: zip([1, 2])])
def test_an_iterator_is_refused(make):
    batches = make()
    with pytest.raises(JitError, match="batches is an iterator.*give it as an argument"):
        recorded(lambda: next(batches))


# --- the watch, memory, speed --------------------------------------------------------------------------------------


def test_the_watch_notes_the_users_functions_alone():
    def step(x):
        return sorted([helper(x).sum().item(), 1.0], key=lambda v: -v)

    watch = Watch()
    with watch:
        step(X)
    assert [code.co_name for code, _ in watch.ran] == ["step", "helper", "<lambda>"]


def test_the_watch_leaves_a_profiler_as_it_was():
    seen = []

    def profile(frame, event, argument):
        seen.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        with pytest.raises(ZeroDivisionError), Watch():
            helper(1 / 0 if helper(1) else 2)
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(before)
    assert "helper" in seen


def test_a_guard_without_a_watch_guards_all_that_is_reached():
    net = Net()
    step = lambda x: net(x)  # noqa: E731
    guard = make_guard(reached(step, (X,), {}), None, (X,), {})
    assert guard()
    net.history.append(1)
    assert guard.reason() == "net.history had 0 items, has 1"


def test_a_dropped_guard_lets_the_model_go_at_once():
    net, _, step = trained()
    guard = recorded(step, X)
    seen = weakref.ref(net.layers[0].weight)
    del _
    gc.collect()
    gc.disable()
    try:
        del step, net
        assert guard() and seen() is not None
        del guard
        assert seen() is None
    finally:
        gc.enable()


class Ring:
    """Objects that lead back to the one that holds them."""

    def __init__(self):
        self.scale, self.net = 2.0, Net()
        self.net.parent, self.peers = self, [self]

    def run(self, x):
        return self.net.parent.net(x) * self.scale * len(self.peers)


def test_a_guard_lets_objects_among_the_arguments_go():
    ring, told = Ring(), []
    guard = recorded(Ring.run, ring, X)
    guard.on_death.append(lambda: told.append("gone"))
    seen = weakref.ref(ring), weakref.ref(ring.net)
    del ring
    gc.collect()
    assert [thing() for thing in seen] == [None, None] and told == ["gone"]
    assert not guard() and guard.reason() == "a Ring that was an argument is gone"


def test_objects_among_the_arguments_are_guarded_all_the_same():
    for change, text in [
        (lambda ring: setattr(ring, "scale", 3.0), "argument 0.scale was 2.0, is 3.0"),
        (lambda ring: setattr(ring.net, "scale", 3.0), "argument 0.net.scale was 2.0, is 3.0"),
        (lambda ring: setattr(ring, "net", Net()), "argument 0.net is another Net"),
        (lambda ring: setattr(ring, "run", helper), "argument 0 gained 'run'"),
        (lambda ring: ring.peers.append(ring), "argument 0.peers had 1 items, has 2"),
        (lambda ring: setattr(ring, "__class__", type("Other", (Ring,), {})), "argument 0 was a Ring, is a Other"),
    ]:
        ring = Ring()
        assert reason(lambda ring, x: ring.run(x), lambda change=change, ring=ring: change(ring), ring, X) == text


def test_an_optimizer_among_the_arguments_is_let_go():
    net, optimizer, _ = trained()
    optimizer.reset_grad()
    guard = recorded(lambda optimizer: optimizer.reset_grad(), optimizer)
    seen = weakref.ref(optimizer)
    del optimizer, _
    gc.collect()
    assert seen() is None and not guard()


def test_described_tells_what_is_kept():
    net = Net()
    lines = recorded(lambda x: net(x), X).described()
    assert "net.scale = 2.0" in lines and "net.training = True" in lines


def residual(dim, hidden):
    begin = nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.1)
    inner = nn.Sequential(*begin, nn.Linear(hidden, dim), nn.BatchNorm1d(dim))
    return nn.Sequential(nn.Residual(inner), nn.ReLU())


def test_the_guard_of_a_model_of_thirty_modules_is_quick():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), *[residual(8, 4) for _ in range(3)], nn.Linear(8, 2))
    x = ndl.Tensor(np.ones((4, 8), "float32"))
    assert len(list(model.named_modules())) == 34
    guard = recorded(lambda x: model(x), x)
    assert least_time(guard, enough=10e-6) < 10e-6


def least_time(call, enough):
    """Of one call, the least over many rounds, until it is little enough; the machine may be busy."""
    least, end = math.inf, time.perf_counter() + 5
    while least > enough and time.perf_counter() < end:
        begin = time.perf_counter()
        for _ in range(100):
            call()
        least = min(least, (time.perf_counter() - begin) / 100)
    return least
