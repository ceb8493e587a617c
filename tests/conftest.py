"""Settings of the test run; fixtures live with the tests that use them."""

import os

from hypothesis import settings

# A red run must be red again tomorrow, so the examples are always the same; `make fuzz` looks for new ones.
settings.register_profile("same", deadline=None, max_examples=100, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
