"""Settings of the test run; fixtures live with the tests that use them."""

import os

from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
