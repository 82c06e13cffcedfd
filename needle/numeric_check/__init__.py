"""The gradient checker: `gradcheck` compares derivatives with differences, and names the rule that is wrong.

Read in this order: `slopes` (a numeric derivative and how far to trust it), `probes` (what is differentiated),
`rules` (each op's own rule), `guesses` (likely causes), `check` (the verdict), `result` (the report).
"""

from .check import gradcheck
from .result import GradcheckResult

__all__ = ["GradcheckResult", "gradcheck"]
