"""The examples of the reference of the HTTP API do what it says they do."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from mesa_ws.http_server.server import DispatchApi
from tests.http_site import KEY, Site

REFERENCE = Path(__file__).parents[3] / "docs/reference/http-api.md"
EXAMPLES = re.findall(r"```sh\n(.*?)```\n\n```json\n(.*?)```", REFERENCE.read_text(), re.DOTALL)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    site = Site(sockets=1)
    await site.open()
    async with DispatchApi(site.server, key=KEY, port=0) as api:
        yield api.url
    await site.memory.aclose()


def test_the_reference_has_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.skipif(which("curl") is None, reason="the examples use curl")
@pytest.mark.parametrize(("command", "answer"), EXAMPLES)
async def test_an_example_is_answered_as_the_reference_says(url: str, command: str, answer: str) -> None:
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, env=os.environ | {"MESA_URL": url, "MESA_API_KEY": KEY}
    )
    given, _ = await process.communicate()
    assert _without_ids(json.loads(given)) == _without_ids(json.loads(answer))


def _without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    for receipt in answer.get("receipts", ()):
        assert re.fullmatch("[0-9a-f]{32}", receipt.pop("message_id"))
    if "done" in answer:
        assert re.fullmatch("[0-9a-f]{32}", answer.pop("message_id"))
        assert re.fullmatch("[0-9a-f]{16}", answer["position"].pop(0))
        answer["done"] = len(answer["done"])
    return answer
