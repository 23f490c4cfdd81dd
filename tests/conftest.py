"""How hypothesis looks for counterexamples: the same ones in every run, unless somebody goes looking for new ones.

HYPOTHESIS_PROFILE=search .venv/bin/python -m pytest tests/unit
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
