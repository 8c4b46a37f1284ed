"""Classifiers by XGBoost on what users did and on their vectors.


XGBoost's threads wait without spinning: on a machine whose cores have other work too, spinning made a fit five times as
long (95 s for 19 s on two cores under load, 20 s for 4 s of processor time), and waiting costs nothing measurable where
they have none. Read when its library is loaded, so it is said here, before that.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
