"""The README as an index page shows it: hatchling runs this when it builds.

There is no repository around an index page, so a relative link leads nowhere. With an address in
`[project.urls] Source` of pyproject.toml each becomes a link into the repository; without one, its text.
Likewise pictures, which are left out without one.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[([^\]]+)\]\((?![a-z]+:)([^)]+)\)\n*")
_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)([^)]+)\)")


class ReadmeLinks(MetadataHookInterface):
    """Sets `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text that index pages show."""
        source = str(metadata.get("urls", {}).get("Source", "")).rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        pictured = _PICTURE.sub(f"![\\1]({source}/raw/main/\\2)\n\n" if source else "", text)
        shown = _LINK.sub(rf"[\1]({source}/blob/main/\2)" if source else r"\1", pictured)
        metadata["readme"] = {"content-type": "text/markdown", "text": shown}
