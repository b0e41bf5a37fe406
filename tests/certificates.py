"""Certificates for tests with TLS, made by openssl."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def make_certificate(path: Path) -> Path:
    """Make a self-signed certificate for this machine; certificate and key are in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on the PATH; it makes the certificates")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    name = "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -days 2"
    command = f"openssl req -x509 {key} {name} -keyout {path} -out {path}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    """Return the TLS context of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
