"""What the tests of the chat share."""

import os

os.environ["DATABASE"] = ":memory:"  # each test has one of its own

pytest_plugins = ["mesa_ws.testing.plugin"]
