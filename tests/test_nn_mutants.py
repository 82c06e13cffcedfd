"""Every broken layer, loss and module of nn_mutants.py is caught by the checks of test_nn.py."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import test_nn
from nn_examples import EXAMPLES
from nn_mutants import MUTANTS, Mutant, broken

from needle import nn
from needle.kernels import Kernel
from needle.nn import nn_losses, nn_module


def checks(one: Mutant) -> Iterator[Callable[[], None]]:
    """What may catch it, likely ones first: examples that run it, tests that stand alone, the rest."""
    near = [example for name, example in EXAMPLES.items() if runs(one.owner, name, example)]
    for example in near:
        yield from example_checks(example)
    yield from (function for function in vars(test_nn).values() if stands_alone(function))
    yield from (lambda bad=bad: test_nn.test_bad_input_is_told(*bad) for bad in test_nn.BAD)
    for example in EXAMPLES.values():
        if example not in near:
            yield from example_checks(example)


def runs(owner, name, example) -> bool:
    """Whether the example holds a layer of that class, or one that is made of that op or file."""
    if owner in (nn.Module, nn_module):
        return False  # all do: its own tests are quicker
    if not isinstance(owner, type) or not issubclass(owner, nn.Module):
        return ("Loss" if owner is nn_losses else "Norm") in name
    return any(isinstance(module, owner) for _, module in example.make().named_modules())


def example_checks(example) -> Iterator[Callable[[], None]]:
    for training in (True, False):
        yield lambda training=training: test_nn.test_values(example, training)
        yield lambda training=training: test_nn.test_derivatives_by_inputs_and_parameters(example, training)
    yield lambda: test_nn.test_float32_stays_float32(example)


def stands_alone(function) -> bool:
    name = getattr(function, "__name__", "")
    return inspect.isfunction(function) and name.startswith("test_") and not inspect.signature(function).parameters


def catches(check: Callable[[], None]) -> bool:
    random.seed(0)
    np.random.seed(0)
    try:
        check()
    except (Exception, pytest.fail.Exception):
        return True
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in MUTANTS])
def test_a_broken_layer_is_caught(one: Mutant, monkeypatch):
    monkeypatch.setattr(Kernel, "get", lambda self: None)  # the text that is changed shall run
    with broken(one), np.errstate(all="ignore"):
        assert any(catches(check) for check in checks(one)), "no check of test_nn.py sees it"


def test_unbroken_layers_pass_the_same_checks():
    assert not any(catches(check) for check in checks(MUTANTS[0]))


def test_no_mutant_is_there_twice_and_each_leaves_the_layer_as_it_was():
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 100
    own = vars(nn.Linear)["forward"]
    with broken(MUTANTS[0]):
        assert vars(nn.Linear)["forward"] is not own
    assert vars(nn.Linear)["forward"] is own
