"""How hypothesis looks for counterexamples: the same ones in every run, unless somebody goes looking for new ones.

HYPOTHESIS_PROFILE=search .venv/bin/python -m pytest tests/unit
"""

import gc
import os

from hypothesis import settings

# servers of tests are on loopback and speak plain HTTP: no client need read the machine's certificates
os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull
# thousands of tests stay until the end of a run, and hardly a circle among them
gc.set_threshold(100_000, 20, 100)


def pytest_collection_finish() -> None:
    gc.freeze()


# the same fifty: more of them would find in no run what they did not find in the first
settings.register_profile("repeatable", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
