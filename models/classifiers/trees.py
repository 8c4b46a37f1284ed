"""XGBoost, with threads that wait without spinning.

On a machine whose cores have other work too, spinning made a fit five times as long (95 s for 19 s on two cores under
load, 20 s for 4 s of processor time); waiting costs nothing measurable where they have none. OpenMP reads the setting
when XGBoost is loaded, so that whoever uses XGBoost takes it from here.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import xgboost  # noqa: E402

__all__ = ["xgboost"]
