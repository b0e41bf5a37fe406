"""A certificate for servers on this machine."""

import shutil
import subprocess
from pathlib import Path

from .errors import Skipped


def make_certificate(path: Path) -> Path:
    """Make a self-signed certificate for this machine; certificate and key are in one file.

    Raises:
        Skipped: there is no openssl.
    """
    if shutil.which("openssl") is None:
        raise Skipped("openssl is not on the PATH; it makes certificates")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    name = "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -days 2"
    command = f"openssl req -x509 {key} {name} -keyout {path} -out {path}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return path
