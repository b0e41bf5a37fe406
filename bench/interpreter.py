"""How Python was built: with a profile (PGO) and link-time optimisation (LTO), or without.

An interpreter without a profile takes up to half more time for the same program.

The options of `configure` tell it, where there are any. Debian and Ubuntu optimise without these options, and
remove the compiler's flags afterwards; there, the order of functions in memory tells: a compiler with a
profile puts what runs often into one place and the rest into another, so that functions of one source file
lie far apart. Without a profile they lie next to each other.
"""

import ctypes
import shlex
import sysconfig
from collections.abc import Sequence
from typing import Any, NamedTuple

_ONE_FILE = (
    "PyLong_AsDouble", "PyLong_AsLong", "PyLong_AsSize_t", "PyLong_AsUnsignedLongMask", "PyLong_AsVoidPtr",
    "PyLong_FromDouble", "PyLong_FromLong", "PyLong_FromUnicodeObject", "PyLong_GetInfo",
)  # fmt: skip
"""Functions of Objects/longobject.c, some of which run all the time and others hardly ever."""

_FAR = 256 << 10
"""Bytes; the code of that file has about 50 KiB."""

_PROFILE, _LINK = ("--enable-optimizations", "--enable-bolt"), "--with-lto"


class Build(NamedTuple):
    """How an interpreter was built.

    Attributes:
        text: description.
        is_optimised: whether a profile was used.
    """

    text: str
    is_optimised: bool


def find_build() -> Build:
    """Find out how the running interpreter was built."""
    return describe(sysconfig.get_config_vars(), _distance(_ONE_FILE))


def describe(variables: dict[str, Any], distance: int) -> Build:
    """Describe a build.

    Args:
        variables: those of `sysconfig`.
        distance: bytes from the first to the last of some functions of one source file.
    """
    options = shlex.split(variables.get("CONFIG_ARGS") or "")
    flags = " ".join(str(variables.get(name)) for name in ("PY_CORE_CFLAGS", "PY_CORE_LDFLAGS", "LTOFLAGS"))
    if variables.get("Py_DEBUG"):
        return Build("debug build", is_optimised=False)
    links = "LTO" if _says(options, _LINK) or "-flto" in flags else "no LTO"
    if any(_says(options, option) for option in _PROFILE) or "-fprofile-use" in flags:
        return Build(f"PGO, {links}", is_optimised=True)
    if distance > _FAR:
        return Build("PGO, as its functions are laid out by a profile", is_optimised=True)
    return Build(f"no PGO, {links}", is_optimised=False)


def _says(options: Sequence[str], option: str) -> bool:
    given = [each.partition("=")[2] for each in options if each.partition("=")[0] == option]
    return bool(given) and given[-1] != "no"


def _distance(functions: Sequence[str]) -> int:
    addresses = [
        ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
        for name in functions
        if hasattr(ctypes.pythonapi, name)
    ]
    return max(addresses, default=0) - min(addresses, default=0)
