"""The gradient checker: `gradcheck` compares derivatives with differences, and names the rule that is wrong.

Read in this order: `slopes` (a numeric derivative and how far to trust it), `probes` (what is differentiated),
`looks` and `entries` (a gradient beside differences), `rules` (each op's own rule), `suspects` (which one is guilty),
`guesses` (of what), `questions` and `check` (the verdict), `result` (the report).
"""

from .check import gradcheck
from .result import GradcheckResult

__all__ = ["GradcheckResult", "gradcheck"]
