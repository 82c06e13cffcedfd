"""What `ndl.jit` raises where it cannot promise eager's numbers."""

from __future__ import annotations


class JitError(RuntimeError):
    """A jitted function does something that a recording cannot repeat. The message says what, and what to do."""


class ValueNeeded(JitError):
    """Python asked for a value while the function was recorded. In an op's `compute` that makes the op a barrier."""


class UnseenArray(JitError):
    """A NumPy array came in that is neither an argument nor a tensor's: the recording would keep its numbers of now."""
