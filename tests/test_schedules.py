"""Schedules of learning rates: against formulas and PyTorch, resumed, given bad input."""

from __future__ import annotations

import json

import pytest
from optim_check import (
    PLATEAUS,
    RATES,
    SCHEDULES,
    check_plateau,
    check_schedule,
    metrics,
    plateau_by_formula,
    two_groups,
)

import needle as ndl
from needle import optim


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda c: c.name)
def test_a_schedule_equals_its_formula(case):
    check_schedule(case)


@pytest.mark.parametrize("settings", PLATEAUS.values(), ids=PLATEAUS)
def test_reduce_on_plateau_equals_its_rule(settings):
    check_plateau(settings)


@pytest.mark.oracle
@pytest.mark.parametrize("case", SCHEDULES, ids=lambda c: c.name)
def test_a_schedule_equals_that_of_pytorch(case):
    torch = pytest.importorskip("torch")
    optimizer = two_groups()
    theirs = torch_groups(torch)
    schedule, their_schedule = case.make(optimizer), case.torch(torch.optim.lr_scheduler, theirs)
    for t in range(case.steps):
        for ours, group in zip(optimizer.param_groups, theirs.param_groups, strict=True):
            assert abs(ours["lr"] - group["lr"]) < 1e-12, t
            assert abs(ours["momentum"] - group["momentum"]) < 1e-12, t
        theirs.step()
        their_schedule.step()
        schedule.step()


@pytest.mark.oracle
@pytest.mark.parametrize("settings", PLATEAUS.values(), ids=PLATEAUS)
def test_reduce_on_plateau_equals_that_of_pytorch(settings):
    torch = pytest.importorskip("torch")
    theirs = torch_groups(torch)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **settings)
    wanted = plateau_by_formula(**settings)
    assert any(rates != list(RATES) for rates in wanted)
    for value, rates in zip(metrics(settings.get("mode", "min")), wanted, strict=True):
        schedule.step(value)
        assert [group["lr"] for group in theirs.param_groups] == pytest.approx(rates, rel=1e-14)


def torch_groups(torch):
    groups = [{"params": [torch.ones(1, requires_grad=True)], "lr": lr} for lr in RATES]
    return torch.optim.SGD(groups, momentum=0.9)


def test_a_schedule_changes_the_rate_at_once_and_one_cycle_ends():
    optimizer = two_groups()
    schedule = optim.OneCycle(optimizer, [1.0, 0.5], 2)
    assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    schedule.step()
    lowest = schedule.get_last_lr()
    assert lowest == pytest.approx([4e-6, 2e-6])
    schedule.step()  # as a loop does that steps after each of its 2 batches
    assert schedule.get_last_lr() == lowest
    with pytest.raises(ValueError, match="OneCycle: all 2 steps were made"):
        schedule.step()


def test_a_plateau_takes_a_tensor():
    optimizer = two_groups()
    schedule = optim.ReduceOnPlateau(optimizer, patience=0, factor=0.5)
    for value in (1.0, 2.0):
        schedule.step(ndl.Tensor(value))
    assert schedule.get_last_lr() == [lr / 2 for lr in RATES]


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda c: c.name)
@pytest.mark.parametrize("at", [0, 3, 11])
def test_a_resumed_schedule_goes_on_where_it_was(case, at):
    def run(schedule, steps):
        rates = [schedule.get_last_lr()]
        for _ in range(steps):
            schedule.step()
            rates.append(schedule.get_last_lr())
        return rates

    whole = run(case.make(two_groups()), 19)
    first = case.make(two_groups())
    run(first, at)
    saved = json.loads(json.dumps(first.state_dict()))
    elsewhere = two_groups()
    elsewhere.lr = 7.0  # as the group's rate is when it was loaded half-way
    second = case.make(elsewhere)
    second.load_state_dict(saved)
    assert run(second, 19 - at) == whole[at:]


def test_a_resumed_plateau_goes_on_where_it_was():
    def run(schedule, values):
        return [(schedule.step(value), schedule.get_last_lr())[1] for value in values]

    settings, values = {"patience": 1, "factor": 0.5, "cooldown": 2}, metrics("min")
    whole = run(optim.ReduceOnPlateau(two_groups(), **settings), values)
    for at in (1, 15, 30):
        first = optim.ReduceOnPlateau(two_groups(), **settings)
        run(first, values[:at])
        second = optim.ReduceOnPlateau(two_groups(), **settings)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert run(second, values[at:]) == whole[at:]


BAD_SCHEDULES = {
    "no optimizer": (lambda o: optim.StepLR([1], 2), "StepLR: wanted an optimizer, got list"),
    "step_size": (lambda o: optim.StepLR(o, 0), "StepLR: step_size must be at least 1, got 0"),
    "gamma": (lambda o: optim.StepLR(o, 2, -1.0), "StepLR: gamma must be at least 0, got -1.0"),
    "T_max": (lambda o: optim.CosineLR(o, "ten"), "CosineLR: T_max must be a number, got 'ten'"),
    "eta_min": (lambda o: optim.CosineLR(o, 3, float("nan")), "CosineLR: eta_min must be at least 0, got nan"),
    "warm-up round no schedule": (
        lambda o: optim.WarmUp(optim.ReduceOnPlateau(o), 3),
        "WarmUp: wanted an optimizer or a Schedule, which has a formula, got ReduceOnPlateau",
    ),
    "steps": (lambda o: optim.WarmUp(o, 0), "WarmUp: steps must be at least 1, got 0"),
    "total_steps": (lambda o: optim.OneCycle(o, 1.0, 0), "OneCycle: total_steps must be at least 1, got 0"),
    "pct_start": (lambda o: optim.OneCycle(o, 1.0, 9, 1.5), "OneCycle: pct_start must be between 0 and 1, got 1.5"),
    "strategy": (lambda o: optim.OneCycle(o, 1.0, 9, 0.3, "sin"), "must be 'cos' or 'linear', got 'sin'"),
    "max_lr": (lambda o: optim.OneCycle(o, [1.0], 9), "OneCycle: wanted one max_lr for each of 2 groups, got [1.0]"),
    "no momentum": (
        lambda o: optim.OneCycle(optim.Adagrad([ndl.Tensor([1.0])]), 1.0, 9),
        "OneCycle: Adagrad has neither momentum nor beta1 to cycle; say cycle_momentum=False",
    ),
    "mode": (lambda o: optim.ReduceOnPlateau(o, "low"), "ReduceOnPlateau: mode is 'min' or 'max'"),
    "factor": (lambda o: optim.ReduceOnPlateau(o, factor=1), "ReduceOnPlateau: factor must be in [0, 1), got 1"),
    "plateau of no optimizer": (lambda o: optim.ReduceOnPlateau(3), "ReduceOnPlateau: wanted an optimizer, got int"),
    "state": (
        lambda o: optim.StepLR(o, 2).load_state_dict({"t": -1, "base_lrs": [1.0], "x": 3}),
        "StepLR.load_state_dict: nothing was changed, since it does not fit: x is unknown; t is -1, wanted a whole "
        "number >= 0; base_lrs is [1.0], wanted a list of 2 number(s), one a parameter group",
    ),
    "state of a warm-up": (
        lambda o: optim.WarmUp(o, 2).load_state_dict({"t": 1, "after": {"t": 2}}),
        "WarmUp.load_state_dict: nothing was changed, since it does not fit: after: base_lrs is missing",
    ),
    "state of a plateau": (
        lambda o: optim.ReduceOnPlateau(o).load_state_dict({"best": "?", "bad": 0, "cooling": 0}),
        "ReduceOnPlateau.load_state_dict: nothing was changed, since it does not fit: lrs is missing; best is '?'",
    ),
}


@pytest.mark.parametrize("call, text", BAD_SCHEDULES.values(), ids=BAD_SCHEDULES)
def test_bad_schedules(call, text):
    optimizer = two_groups()
    with pytest.raises((TypeError, ValueError)) as error:
        call(optimizer)
    assert text in str(error.value)
