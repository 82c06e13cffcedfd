"""Tensors made from nothing: constants, random numbers, initial weights."""

from .generator import Generator
from .init_basic import constant, one_hot, ones, ones_like, rand, randb, randn, zeros, zeros_like
from .init_initializers import (
    kaiming_normal,
    kaiming_uniform,
    orthogonal,
    truncated_normal,
    xavier_normal,
    xavier_uniform,
)

__all__ = [
    "Generator",
    "constant",
    "kaiming_normal",
    "kaiming_uniform",
    "one_hot",
    "ones",
    "ones_like",
    "orthogonal",
    "rand",
    "randb",
    "randn",
    "truncated_normal",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_like",
]
