"""Settings of all tests."""

import os

# Waiting OpenMP threads that spin would starve the processes that the tests start. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
