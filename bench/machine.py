"""Description of the machine that measures."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .interpreter import find_build
from .peer import Peer

_LIBRARIES = ("mesa-ws", "picows", "aiofastnet", "uvloop", "msgspec", "redis", "hiredis")


def facts(peers: list[Peer]) -> dict[str, str]:
    """Describe the machine and the versions."""
    known = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "built with": find_build().text,
        **{name: version(name) for name in _LIBRARIES},
        "redis-server": _answer("redis-server", "--version", pattern=r"v=([\d.]+)"),
    }
    versions = {peer.name: peer.version for peer in peers if peer.version}
    if versions:
        known |= {"node": _answer("node", "--version", pattern=r"v(.+)"), **versions}
    return known


def _cpu_model() -> str:
    models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return models[0] if models else platform.machine()


def _answer(*command: str, pattern: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return "none"
    found = re.search(pattern, said)
    return found[1].strip() if found else "unknown"
