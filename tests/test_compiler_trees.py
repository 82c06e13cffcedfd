"""Arguments and results of jitted functions: taken apart, put together, compared."""

from __future__ import annotations

import enum
from collections import OrderedDict, UserList, defaultdict, namedtuple
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pytest

import needle as ndl
from needle.compiler.errors import JitError
from needle.compiler.guards import reached
from needle.compiler.trees import altered, array_of, difference, flatten, opaque, refuse_iterators, unflatten

Point = namedtuple("Point", "x y")


class Named(Point):
    """A named tuple whose constructor is of the user's making: it must not run again."""

    def __new__(cls, x):
        return super().__new__(cls, x, 2 * x)


@dataclass
class Batch:
    x: object
    y: object = 1.5
    names: list = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    x: float

    def __post_init__(self):
        if not isinstance(self.x, float):
            raise TypeError("x must be a float")


@dataclass
class InSlots:
    __slots__ = ("x", "y")
    x: float
    y: float


@dataclass(eq=False)
class Layer(ndl.nn.Module):
    size: int = 3

    def __post_init__(self):
        super().__init__()


TREES = [
    1.5,
    None,
    "text",
    [],
    (),
    {},
    [1, (2.0, None), {"a": [True, "b"]}],
    Point(1.0, [2, 3]),
    Named(3),
    OrderedDict(b=1, a=(2,)),
    {1: "one", "two": 2, None: 3, (4, 5): 6},
    Batch(1.0, (2, 3), ["a"]),
    [Frozen(1.0)],
    InSlots(1.0, 2.0),
]


@pytest.mark.parametrize("value", TREES, ids=repr)
def test_what_is_taken_apart_comes_together_again(value):
    leaves, structure = flatten(value)
    made = unflatten(structure, leaves)
    assert repr(made) == repr(value) and type(made) is type(value)
    assert flatten(made) == (leaves, structure)


def test_leaves_come_in_order_and_are_the_things_themselves():
    x, layer, array = ndl.Tensor([1.0]), ndl.nn.Linear(2, 3), np.ones(2)
    leaves, _ = flatten(({"x": [x, 2.5]}, (layer, array), None))
    assert [id(leaf) for leaf in leaves] == [id(thing) for thing in (x, leaves[1], layer, array, None)]
    assert leaves[1] == 2.5


def test_new_containers_each_time():
    value = {"a": [1.0], "b": Batch(1.0)}
    leaves, structure = flatten(value)
    made = unflatten(structure, leaves)
    assert made is not value and made["a"] is not value["a"] and made["b"] is not value["b"]


def test_leaves_can_be_others():
    _, structure = flatten([Point(1, 2), Frozen(1.0)])
    assert unflatten(structure, ["a", "b", None]) == [Point("a", "b"), made_frozen(None)]


def made_frozen(x):
    """Without its check of x: an array in place of another does not go through a constructor."""
    made = object.__new__(Frozen)
    object.__setattr__(made, "x", x)
    return made


def test_a_defaultdict_keeps_what_it_makes():
    value = defaultdict(list, a=[1])
    leaves, structure = flatten(value)
    made = unflatten(structure, leaves)
    assert made == value and made["new"] == []
    assert structure != flatten(defaultdict(dict, a=[1]))[1]


def test_attributes_that_a_dataclass_got_later_come_along():
    batch = Batch(1.0)
    batch.extra = 2.0
    leaves, structure = flatten(batch)
    assert leaves == [1.0, 1.5, 2.0] and unflatten(structure, leaves).extra == 2.0


def test_modules_and_tensors_stay_whole_though_they_be_dataclasses():
    layer = Layer()
    assert flatten(layer)[0] == [layer]
    assert flatten([{1}, "ab", range(3)])[0] == [{1}, "ab", range(3)]


def test_a_list_of_the_users_class_stays_whole():
    value = type("Items", (list,), {})([1, 2])
    leaves, structure = flatten(value)
    assert leaves[0] is value and unflatten(structure, leaves) is value


@pytest.mark.parametrize("leaves, complaint", [([1], "too few"), ([1, 2, 3], "too many")])
def test_the_number_of_leaves_must_fit(leaves, complaint):
    with pytest.raises(ValueError, match=complaint):
        unflatten(flatten([1, 2])[1], leaves)


def test_what_contains_itself_is_refused():
    value: list = [1]
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        flatten(value)


DIFFERENT = [
    ([1, 2], (1, 2), "arguments: was a list, is a tuple"),
    ([1, 2], [1, 2, 3], "arguments: had 2 items, has 3"),
    ({"a": 1}, {"b": 1}, "arguments: had the keys 'a', has 'b'"),
    ({"a": 1, "b": 2}, {"b": 1, "a": 2}, "arguments: had the keys 'a', 'b', has 'b', 'a'"),
    ({1: 0}, {True: 0}, "arguments: had the keys 1, has True"),
    ([1, {"a": (1,)}], [1, {"a": 1}], "arguments[1]['a']: was a tuple, is a single value"),
    (Batch(1.0, 2), Batch(1.0, [2]), "arguments['y']: was a single value, is a list"),
    (Point(1, 2), (1, 2), "arguments: was a Point, is a tuple"),
]


@pytest.mark.parametrize("was, now, text", DIFFERENT, ids=[text for *_, text in DIFFERENT])
def test_structures_that_differ(was, now, text):
    assert flatten(was)[1] != flatten(now)[1]
    assert difference(flatten(was)[1], flatten(now)[1]) == text


def test_equal_structures_do_not_differ():
    a, b = flatten({"a": [1, Point(2, 3)]})[1], flatten({"a": ["x", Point(None, 5.0)]})[1]
    assert a == b and difference(a, b) == ""


CHANGES = [
    (lambda v: v["list"].append(1), "arguments['list']: had 1 items, has 2"),
    (lambda v: v.update(new=1), "arguments: had the keys 'list', 'batch', has 'list', 'batch', 'new'"),
    (lambda v: v["list"].__setitem__(0, 3.5), "arguments: leaf 0 was replaced"),
    (lambda v: setattr(v["batch"], "x", 7.0), "arguments: leaf 1 was replaced"),
]


@pytest.mark.parametrize("change, text", CHANGES, ids=[text for _, text in CHANGES])
def test_a_function_that_changes_its_arguments_is_found_out(change, text):
    leaves, structure = flatten({"list": [1.5], "batch": Batch(2.5)})
    value = unflatten(structure, leaves)
    assert altered(structure, leaves, value) == ""
    change(value)
    assert altered(structure, leaves, value) == text


# --- leaves ------------------------------------------------------------------------------------------------------


async def later():
    return 1


@pytest.mark.parametrize("make", [lambda: iter([1]), lambda: (i for i in "a"), lambda: zip([1]), lambda: map(abs, [1])])
def test_a_result_that_is_used_up_is_refused(make):
    made = make()
    with pytest.raises(JitError, match=f"returned a {type(made).__name__}, .*return a list"):
        refuse_iterators([1.0, made])


def test_a_coroutine_is_refused_and_values_are_not():
    made = later()
    with pytest.raises(JitError, match="returned a coroutine"):
        refuse_iterators([made])
    made.close()
    refuse_iterators([1.0, "a", None, ndl.Tensor([1.0]), np.ones(2), range(3), {1}, ndl.nn.ReLU()])


Colour = enum.Enum("Colour", "RED")
OPAQUE = [{1}, np.ones(2), bytearray(b"a"), UserList([1]), {}.values(), object(), ndl.nn.ReLU()]
LASTING = [
    1, 2.5, "a", None, True, ndl.Tensor([1.0]), np.float32(1), np.dtype("f4"), frozenset({1}), Colour.RED, abs, np.sum,
    PurePath("a"), ndl.cpu(), Point, slice(1), later,
]  # fmt: skip


def test_what_can_change_is_opaque():
    assert [opaque(leaf) for leaf in OPAQUE] == [True] * len(OPAQUE)
    assert [opaque(leaf) for leaf in LASTING] == [False] * len(LASTING)


def test_what_was_there_before_is_held():
    held, given, made = {1}, ndl.nn.ReLU(), {1}
    found = reached(lambda: held, (given, [{3}]), {})
    assert found.holds(held) and found.holds(given) and found.holds(found.args[1][0]) and not found.holds(made)


def test_an_array_of_a_subclass_counts_as_an_array(tmp_path):
    mapped = np.memmap(tmp_path / "x", dtype="float32", mode="w+", shape=(2, 3))
    array = array_of(mapped)
    assert type(array) is np.ndarray and np.shares_memory(array, mapped) and array.shape == (2, 3)
    plain = np.ones(2)
    assert array_of(plain) is plain and array_of(2.5) == 2.5


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("make", [np.matrix, np.ma.masked_array])
def test_arrays_of_another_arithmetic_are_refused(make):
    with pytest.raises(JitError, match="whose arithmetic is not that of an array"):
        array_of(make([[1.0]]))
