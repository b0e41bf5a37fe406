"""`mesa_ws.contrib.django`, by Django's own test runner in a process of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_application_of_django() -> None:
    settings = "--settings=tests.contrib.django_settings"
    command = [sys.executable, "-W", "error", "-m", "django", "test", "tests.contrib.django_cases", settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Ran 18 tests" in done.stderr
