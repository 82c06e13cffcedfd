"""What a check found, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GradcheckResult"]


@dataclass(frozen=True)
class GradcheckResult:
    """The verdict, "pass", "fail" or "cannot tell", with its reason. True only for a pass; `str()` is the report.

    Of a failure also: `op`, the op whose rule is wrong (None if no single rule is); `argument` of that op, else
    number of the input; the worst `index` in it; the two numbers there, `analytic` and `numeric` (good to `error`);
    `guess`, the likely cause; `site`, the line that made the node, where sites are recorded.
    """

    verdict: str
    reason: str
    order: int = 1
    op: str | None = None
    argument: int | None = None
    index: tuple[int, ...] | None = None
    analytic: float | None = None
    numeric: float | None = None
    error: float | None = None
    guess: str | None = None
    site: str | None = None
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    def __str__(self) -> str:
        lines = [f"gradcheck: {self.verdict}: {self.reason}"]
        if self.analytic is not None:
            lines.append(self._numbers())
        if self.guess is not None:
            lines.append(f"likely cause: {self.guess}")
        if self.site is not None:
            lines.append(f"made at: {self.site}")
        return "\n  ".join([*lines, *self.notes])

    def _numbers(self) -> str:
        place = "" if self.index is None else f"at index {self.index}: "
        says = "reverse mode says" if self.op is None else "the rule says"
        if self.numeric is None:
            return f"{place}{says} {self.analytic:.10g}, and no numeric derivative settles"
        doubt = "" if not self.error else f" (± {self.error:.0e})"
        return f"{place}{says} {self.analytic:.10g}, the numeric derivative is {self.numeric:.10g}{doubt}"

    def assert_ok(self) -> None:
        """Raise AssertionError with the report unless the check passed."""
        if not self:
            raise AssertionError(str(self))
