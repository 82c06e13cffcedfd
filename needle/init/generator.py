"""Random numbers from a seed of their own, apart from the device's global stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Tensor
from ..backend_selection import default_device
from .init_basic import rand, randn


class Generator:
    """A stream of random numbers that `seed` alone determines: counter-based (Philox, Salmon et al. 2011).

    seed: a whole number that is not negative, or several, as (seed, epoch, item) for streams that are independent of
    each other. `state` is plain data, which can be kept as JSON and assigned again. It can be pickled and copied.
    """

    def __init__(self, seed: int | Sequence[int]):
        parts = seed if isinstance(seed, (tuple, list)) else (seed,)
        if not parts or not all(hasattr(n, "__index__") and not isinstance(n, bool) and n >= 0 for n in parts):
            raise ValueError(f"Generator: seed must be a whole number that is not negative, or several; got {seed!r}")
        self.seed = seed
        self._draws: Any = default_device().generator([n.__index__() for n in parts])

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed!r})"

    def uniform(self, shape: Sequence[int], dtype: Any = "float64") -> Any:
        """Draws from [0, 1) as an array; float32 and float64 are drawn as such."""
        return self._draws.random(shape, dtype=_drawn_as(dtype))

    def normal(self, shape: Sequence[int], dtype: Any = "float64") -> Any:
        """Standard normal draws as an array."""
        return self._draws.standard_normal(shape, dtype=_drawn_as(dtype))

    def rand(self, *shape: int, dtype: Any = None, device: Any = None) -> Tensor:
        """Uniform draws from [0, 1)."""
        return rand(*shape, dtype=dtype, device=device, generator=self)

    def randn(self, *shape: int, dtype: Any = None, device: Any = None) -> Tensor:
        """Standard normal draws."""
        return randn(*shape, dtype=dtype, device=device, generator=self)

    def randint(self, low: int, high: int | None = None, size: Any = (), device: Any = None) -> Tensor:
        """Whole numbers from low to high − 1, or from 0 to low − 1; int64."""
        low, high = (0, low) if high is None else (low, high)
        if low >= high:
            raise ValueError(f"Generator.randint: high must be above low, got low {low} and high {high}")
        return _tensor(self._draws.integers(low, high, size=size), "int64", device)

    def permutation(self, n: int, device: Any = None) -> Tensor:
        """0 to n − 1 in random order; int64."""
        return _tensor(self._draws.permutation(n), "int64", device)

    @property
    def state(self) -> dict[str, Any]:
        """Where in its stream it is: numbers, texts, lists and dicts."""
        return _plain(self._draws.bit_generator.state)

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        before = self._draws.bit_generator.state
        try:
            self._draws.bit_generator.state = state
        except (KeyError, IndexError, OverflowError, TypeError, ValueError) as error:
            self._draws.bit_generator.state = before
            raise ValueError(f"Generator.state: this is no state of a Generator ({error!r})") from error


def _drawn_as(dtype: Any) -> str:
    return "float64" if dtype == "float64" else "float32"


def _tensor(array: Any, dtype: Any, device: Any) -> Tensor:
    return Tensor.make_const((device or default_device()).cast(array, dtype))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
