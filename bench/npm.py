"""Installation of the npm package that Mesa is compared with."""

import shutil
import subprocess
from pathlib import Path

from .child import ROOT
from .errors import Skipped
from .peer import Peer, npm_peer

VERSION = "1.5.8"
_PLACE = ROOT / ".cache" / "bench-npm"
_SECONDS = 120


def find_npm_peer() -> Peer:
    """Make the package ready to run.

    Raises:
        Skipped: Node or npm is missing, or the package cannot be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Skipped(
            f"@cryb/mesa: {'npm' if node else 'node'} is not on the PATH; install Node.js to compare"
        )
    if not (_PLACE / "node_modules" / "@cryb" / "mesa" / "package.json").exists():
        _install(npm, _PLACE)
    return npm_peer(node, _PLACE / "node_modules")


def _install(npm: str, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]
    try:
        done = subprocess.run(
            [*command, "--prefix", str(place), f"@cryb/mesa@{VERSION}"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Skipped(f"@cryb/mesa: npm did not install it within {_SECONDS} s") from error
    if done.returncode:
        raise Skipped(f"@cryb/mesa: npm could not install it: {done.stderr.strip()[-300:]}")
