"""What libraries seldom use is not imported with them, and is itself when somebody wants it."""

from __future__ import annotations

import subprocess
import sys

CHECKS = """
import inspect, sys
from jobs.quality.check import library
import sklearn.metrics, xgboost
library()
inspect.getmodule(sys._getframe(), "nowhere.py")  # looks through all modules
print([name for name in ("scipy.stats._stats_py", "altair.vegalite") if name in sys.modules])
assert sklearn.metrics.label_ranking_average_precision_score([[1, 0, 0]], [[0.75, 0.5, 1]]) == 0.5  # by rankdata
import scipy.stats, altair
assert scipy.stats.gmean([1, 4]) == 2 and scipy.stats.__file__
from scipy.stats import norm
from scipy.stats.distributions import norm as same
print(norm.cdf(0), norm is same is scipy.stats.norm, sys.modules["scipy.stats"].norm is norm, altair.Chart.__name__)
try:
    scipy.stats.no_such_name
except AttributeError as error:
    print(error)
"""

TRAINING = """
import sys
import torch
from jobs.late_imports import postpone_compiler
if sys.argv[1] == "late":
    postpone_compiler()
torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=4)
for _ in range(3):
    optimiser.zero_grad()
    model(torch.ones(4, 3)).square().sum().backward()
    optimiser.step()
    schedule.step()
print(model.weight.tolist(), optimiser.state_dict()["state"][0]["exp_avg"].tolist())
print("sympy" in sys.modules)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item(), torch._dynamo.__file__ is not None)
"""


def said(program: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_modules_that_no_check_uses_wait_for_their_first_use() -> None:
    before, after, missing = said(CHECKS)
    assert before == "[]"
    assert after == "0.5 True True Chart"
    assert "scipy.stats" in missing and "no_such_name" in missing


def test_an_optimiser_takes_the_same_steps_without_the_compiler() -> None:
    late, at_once = said(TRAINING, "late"), said(TRAINING, "at once")
    assert (late[1], at_once[1]) == ("False", "True")
    assert late[0] == at_once[0] and late[2] == at_once[2] == "2.0 True"
