"""What Great Expectations seldom uses is not imported with it, and is itself when somebody wants it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from jobs.quality.check import _library
_library()
print([name for name in ("scipy.stats._stats_py", "altair.vegalite") if name in sys.modules])
import scipy.stats, altair
from scipy.stats import norm
from scipy.stats.distributions import norm as same
print(norm.cdf(0), norm is same is scipy.stats.norm, sys.modules["scipy.stats"].norm is norm, altair.Chart.__name__)
try:
    scipy.stats.no_such_name
except AttributeError as error:
    print(error)
"""


def test_modules_that_no_check_uses_wait_for_their_first_use() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after, missing = done.stdout.splitlines()
    assert before == "[]"
    assert after == "0.5 True True Chart"
    assert "scipy.stats" in missing and "no_such_name" in missing
