"""NumPy's legacy stream of uniform numbers, drawn by compiled code: the same numbers, in a quarter of the time."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy

from .loader import Kernel

WORDS = 624  # of the Mersenne Twister's state (Matsumoto and Nishimura 1998); the place in it comes behind them
BLOCK = 4096  # numbers whose words stay in the first-level cache


@Kernel
def draw_words(state, words):
    """Fill `words` with the next 32-bit numbers of MT19937. state (625,) uint32 goes on with them.

    Slices, and indices that cannot be negative, since only such loops are vectorised.
    """
    place, done = int(state[624]), 0
    while done < words.size:
        if place == 624:
            for k in range(227):
                y = (int(state[k]) & 0x80000000) | (int(state[k + 1]) & 0x7FFFFFFF)
                state[k] = int(state[k + 397]) ^ (y >> 1) ^ ((y & 1) * 0x9908B0DF)
            for k in range(396):
                y = (int(state[k + 227]) & 0x80000000) | (int(state[k + 228]) & 0x7FFFFFFF)
                state[k + 227] = int(state[k]) ^ (y >> 1) ^ ((y & 1) * 0x9908B0DF)
            y = (int(state[623]) & 0x80000000) | (int(state[0]) & 0x7FFFFFFF)
            state[623] = int(state[396]) ^ (y >> 1) ^ ((y & 1) * 0x9908B0DF)
            place = 0
        many = min(624 - place, words.size - done)
        fresh, out = state[place : place + many], words[done : done + many]
        for k in range(many):
            y = int(fresh[k])
            y ^= y >> 11
            y ^= (y << 7) & 0x9D2C5680
            y ^= (y << 15) & 0xEFC60000
            out[k] = y ^ (y >> 18)
        place += many
        done += many
    state[624] = place


@Kernel
def as_uniform(words, out):
    """Each two 32-bit numbers as one of 53 bits in [0, 1)."""
    for i in range(out.size):
        out[i] = ((words[2 * i] >> 5) * 67108864.0 + (words[2 * i + 1] >> 6)) / 9007199254740992.0


def _state(generator: Any) -> Any:
    """The live state: writing to it moves the stream on."""
    memory = (ctypes.c_uint32 * (WORDS + 1)).from_address(generator.ctypes.state_address)
    return numpy.ctypeslib.as_array(memory)


@lru_cache
def _is_laid_out_as_known() -> bool:
    """Whether this NumPy keeps words and place where they are looked for."""
    generator: Any = numpy.random.MT19937(1)
    told = generator.state["state"]
    return numpy.array_equal(_state(generator), [*told["key"], told["pos"]])


def uniform(size: int) -> Any:
    """The next `size` numbers of numpy.random.rand as a flat array, or None where NumPy itself must draw them."""
    draw, convert = draw_words.get(), as_uniform.get()
    generator: Any = numpy.random.get_bit_generator()  # type: ignore[attr-defined]
    if draw is None or type(generator) is not numpy.random.MT19937 or not _is_laid_out_as_known():
        return None
    words, out = numpy.empty(2 * min(size, BLOCK), "uint32"), numpy.empty(size)
    with generator.lock:
        state = _state(generator)
        for start in range(0, size, BLOCK):
            part = out[start : start + BLOCK]
            draw(state, words[: 2 * part.size])
            convert(words, part)
    return out
