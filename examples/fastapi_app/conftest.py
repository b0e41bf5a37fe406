"""What the tests of the application share."""

import os

os.environ["SECRET"] = "a-secret-of-thirty-two-characters"

pytest_plugins = ["mesa_ws.testing.plugin"]
