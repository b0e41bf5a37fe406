"""The vectors of `spec/vectors`, each as one test. Their format is described beside them."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mesa_ws.close import CloseCode, may_reconnect
from mesa_ws.errors import InvalidMessage, Unsupported
from mesa_ws.messages.frames import (
    decode_raw_frame,
    encode_frame,
    encode_message,
    numbered,
    numbered_broadcast,
)
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from mesa_ws.messages.recipients import User, id_problem
from mesa_ws.messages.request import Failure
from mesa_ws.protocol.client import AckDue, ClientProtocol, Hello, Ignored, Leave
from mesa_ws.protocol.correlation import ReplyReceived, RequestReceived, answering, asking, failing
from mesa_ws.protocol.cursor import OutboxCursor
from mesa_ws.protocol.events import (
    Acknowledged,
    Authenticate,
    Authenticated,
    Close,
    ProbeAnswered,
    Received,
    SendPing,
    SendText,
    UnexpectedAnswer,
    Waiting,
)
from mesa_ws.protocol.fragments import DataFrame, Fragments, Violation
from mesa_ws.protocol.positions import Arrived, Forked, Lost, Moved, Positions, Reset
from mesa_ws.protocol.resume import (
    UNKNOWN,
    ResumeState,
    SyncOptions,
    read_should_sync,
    read_sync_options,
    reconnect,
    resync,
    welcome,
)
from mesa_ws.protocol.server import ServerProtocol, Terms
from mesa_ws.protocol.timers import ProbeCounter
from mesa_ws.settings import Keepalive, ServerSettings

VECTORS = Path(__file__).parents[3] / "spec" / "vectors"
PROTOCOL = VECTORS.parent / "protocol.md"


FOR_CLIENTS_WITHOUT_PINGS = "client-probes.json"
"""What a client that can send Pings leaves out, as `spec/vectors/README.md` says."""


def load() -> Iterator[tuple[str, str, Any]]:
    """Kind, name and content of every vector of what Python does."""
    for path in sorted(VECTORS.glob("*.json")):
        if path.name == FOR_CLIENTS_WITHOUT_PINGS:
            continue
        content = json.loads(path.read_text())
        (cases,) = (value for value in content.values() if isinstance(value, list))
        for case in cases:
            name = case.get("name") or json.dumps(case.get("code", case.get("opcode", case)))[:40]
            yield content["kind"], f"{path.stem}: {name}", case


ALL = list(load())


def of(kind: str) -> pytest.MarkDecorator:
    cases = [pytest.param(case, id=name) for found, name, case in ALL if found == kind]
    assert cases, f"no vectors of the kind {kind}"
    return pytest.mark.parametrize("case", cases)


def content(given: Any) -> bytes:
    """The bytes that an input stands for."""
    match given:
        case str():
            return given.encode()
        case {"hex": text}:
            return bytes.fromhex(text)
        case {"repeat": [text, times]}:
            return content(text) * int(times)
        case list():
            return b"".join(map(content, given))
    raise ValueError(f"not an input: {given!r}")


def position(given: Position | None) -> Any:
    """How vectors write a position."""
    if given == UNKNOWN:
        return "unknown"
    return None if given is None else {"e": given.epoch, "s": given.sequence}


def sync_options(given: SyncOptions) -> dict[str, Any]:
    """How vectors write what a client wants."""
    return {
        "wire": 2 if given.is_wire2 else 1,
        "resume": position(given.position),
        "broadcasts": position(given.broadcasts),
        "should_sync": given.should_sync,
    }


def resume_state(given: Mapping[str, Any] | None) -> ResumeState | None:
    if given is None:
        return None
    names = {"e": "epoch", "s": "start"}
    return ResumeState(**{names.get(name, name): value for name, value in given.items()})


MEMBERS = ("opcode", "data", "type", "sequence")

TOLD: Mapping[type, Callable[[Any], list[Any]]] = {
    SendText: lambda output: ["send", output.payload.decode()],
    SendPing: lambda output: ["ping", output.payload.decode()] if output.payload else ["ping"],
    Close: lambda output: ["close", output.code],
    Authenticate: lambda output: [
        "authenticate",
        output.data,
        *([sync_options(output.sync)] if output.sync != SyncOptions() else []),
    ],
    Acknowledged: lambda output: ["acknowledged", position(output.position)],
    ProbeAnswered: lambda output: ["answered", output.token],
    UnexpectedAnswer: lambda output: ["strayed"],
    Authenticated: lambda output: [
        "authenticated",
        output.user,
        *([output.expires] if output.expires else []),
    ],
    Received: lambda output: ["message", {name: getattr(output.message, name) for name in MEMBERS}],
    Arrived: lambda output: TOLD_OF_ARRIVALS[type(output.what)](output.what),
    AckDue: lambda output: ["acknowledge"],
    Leave: lambda output: ["leave", output.after],
    RequestReceived: lambda output: ["asked", output.request, *TOLD[Received](Received(output.message))[1:]],
    ReplyReceived: lambda output: (
        ["failed", output.request, *output.reply]
        if isinstance(output.reply, Failure)
        else ["replied", output.request, *TOLD[Received](Received(output.reply))[1:]]
    ),
    Unsupported: lambda output: ["unsupported"],
    Hello: lambda output: ["hello", {**output._asdict(), "rules": sorted(output.rules)}],
    Ignored: lambda output: ["ignored"],
}
"""How vectors write what the protocol gives."""

TOLD_OF_ARRIVALS: Mapping[type, Callable[[Any], list[Any]]] = {
    Message: lambda message: TOLD[Received](Received(message)),
    Lost: lambda lost: ["lost", lost.number],
    Forked: lambda forked: ["forked", forked.rollback],
    Reset: lambda reset: ["reset"],
    Moved: lambda moved: ["moved"],
}
"""How they write what is for a client's application."""


def told(given: Any) -> list[list[Any]]:
    """What an action gave, as vectors write it."""
    outputs = given if type(given) is list else [given] if given is not None else []
    return [TOLD[type(output)](output) for output in outputs]


class ServerPlayer:
    """Plays the steps of a scenario on the server protocol."""

    def __init__(self, scenario: Mapping[str, Any]) -> None:
        settings = ServerSettings.of(scenario["settings"])
        self._terms = Terms(settings, has_authenticator=scenario.get("authenticator", True))
        self.protocol = ServerProtocol(self._terms, scenario.get("start", 0))

    def play(self, now: float, action: str, *args: Any) -> Any:
        match action:
            case "open":
                return SendText(self._terms.hello)
            case "receive":
                event = self.protocol.receive(content(*args), now)
                return self.protocol.read(event) if isinstance(event, Waiting) else event
            case "pong":
                return self.protocol.ponged(content(*args), now)
            case "expire":
                return self.protocol.expire(now + args[0])
            case "heard" | "poll" | "probe" | "suspend" | "resume":
                return getattr(self.protocol, action)(now)
        return self._decide(action, *args)

    def _decide(self, action: str, *args: Any) -> Any:
        match action:
            case "accept":
                accepted = self.protocol.accept(User(**args[0]))
                if len(args) == 1:
                    return SendText(accepted)
                outbox, broadcasts, *expires = args[1:]
                states = resume_state(outbox), resume_state(broadcasts)
                return SendText(welcome(accepted, *states, *expires))
            case "refuse" | "close":
                return getattr(self.protocol, action)()
            case "fail":
                return self.protocol.fail("the authenticator failed")
            case "resync":
                told = resume_state(args[0])
                return SendText(resync(told, is_broadcast=any(args[1:]))) if told else None
            case "reconnect":
                return SendText(reconnect(*args))
        raise ValueError(f"not an action: {action}")


def positions_of(members: Any) -> Positions:
    """The positions that vectors write as in `x.resume`."""
    return Positions.decode(json.dumps(members).encode()) or Positions()


class ClientPlayer:
    """Plays the steps of a scenario on the client protocol."""

    def __init__(self, scenario: Mapping[str, Any]) -> None:
        keepalive = Keepalive.of(scenario["settings"]["keepalive"])
        positions = positions_of(scenario.get("positions", {}))
        self.protocol = ClientProtocol(keepalive, scenario.get("start", 0), positions)

    def play(self, now: float, action: str, *args: Any) -> Any:
        match action:
            case "receive":
                return self.protocol.receive(content(*args), now)
            case "authenticate" | "request":
                return getattr(self, f"_{action}")(*args)
            case "acknowledge":
                return self.protocol.acknowledge(Position(args[0]["e"], args[0]["s"]))
            case "send":
                return self.protocol.send(Message(**args[0]))
            case "close":
                return self.protocol.close()
            case "heard" | "poll" | "suspend" | "resume":
                return getattr(self.protocol, action)(now)
        raise ValueError(f"not an action: {action}")

    def _authenticate(self, data: Any, should_sync: bool = True, resume: Any = None) -> Any:
        return self.protocol.authenticate(data, should_sync=should_sync, resume=positions_of(resume))

    def _request(self, message: Any, request: str) -> SendText | Unsupported:
        try:
            return self.protocol.request(encode_message(Message(**message)), request)
        except Unsupported as error:
            return error


@of("session")
def test_session(case: Any) -> None:
    player = ServerPlayer(case) if case["side"] == "server" else ClientPlayer(case)
    for step in case["steps"]:
        given = player.play(step["at"], *step["do"])
        assert told(given) == step.get("expect", []), step
        if "state" in step:
            assert player.protocol.state.name.lower() == step["state"], step
        if "positions" in step:
            assert isinstance(player, ClientPlayer)
            assert player.protocol.positions.members() == step["positions"], step
        if "deadline" in step:
            assert player.protocol.deadline == step["deadline"], step


@of("fragments")
def test_fragments(case: Any) -> None:
    fragments = Fragments(case["max_message"], case["max_fragments"])
    for frame in case["frames"]:
        data = DataFrame(not frame["is_first"], frame["is_final"], frame["text"].encode())
        if "close" in frame:
            with pytest.raises(Violation) as caught:
                fragments.add(data)
            assert caught.value.code == frame["close"]
        else:
            message = fragments.add(data)
            assert message == (frame["message"].encode() if "message" in frame else None)


@of("codec")
def test_codec(case: Any) -> None:
    body = encode_frame(case["op"], case["data"], case["type"])
    if "sequence" in case:
        body = numbered(body, case["sequence"])
    if "broadcast" in case:
        body = numbered_broadcast(body, case["broadcast"])
    assert body == case["text"].encode()


@of("correlations")
def test_correlation(case: Any) -> None:
    if "error" in case:
        frame = failing(Failure(case["error"]["code"], case["error"]["message"]), case["answer"])
    else:
        message = case["message"]
        body = encode_frame(message["op"], message["data"], message["type"])
        frame = asking(body, case["request"]) if "request" in case else answering(body, case["answer"])
    assert frame == case["text"].encode()


@of("wishes")
def test_wish(case: Any) -> None:
    frame = decode_raw_frame(case["text"].encode())
    found = read_sync_options(frame.x)._replace(should_sync=read_should_sync(frame.data()))
    assert sync_options(found) == case["wish"]
    assert (UNKNOWN in (found.position, found.broadcasts)) is ("unknown" in case["wish"].values())


class Page(NamedTuple):
    """An outbox without messages."""

    status: str = "fresh"
    epoch: str = "e"
    start: int = 0
    top: int = 0
    lost: int = 0
    entries: tuple[()] = ()
    ended: int | None = None
    rollback: str = ""


def logged_in() -> OutboxCursor:
    replay = OutboxCursor(is_wire2=False)
    replay.on_page(Page())
    return replay


@of("proofs")
def test_proof(case: Any) -> None:
    probes, replay = ProbeCounter(), logged_in()
    for step in case["steps"]:
        match step["do"]:
            case "send":
                replay.offer(Position("e", replay.sent + 1))
            case "ask":
                replay.on_probe(probes.ask(0.0))
            case "answer":
                token = probes.answered() if probes.are_trusted else 0
                replay.distrust() if token is None else replay.on_answer(token)
            case "login":
                replay = logged_in()
        assert replay.acked == step["proven"], step


@of("opcodes")
def test_opcode(case: Any) -> None:
    def send() -> bytes:
        return encode_message(Message(case["opcode"]))

    if case["may_send"]:
        assert send()
    else:
        with pytest.raises(InvalidMessage):
            send()


@of("ids")
def test_id(case: Any) -> None:
    id = content(case["id"]).decode() if "id" in case else case["value"]
    assert (id_problem(id) is None) is case["is_valid"]


@of("close-codes")
def test_close_code(case: Any) -> None:
    assert may_reconnect(case["code"]) is case["may_reconnect"]
    if "name" in case:
        code = CloseCode[case["name"]]
        assert (code, code.wire_reason) == (case["code"], case["wire_reason"])


def test_every_close_code_of_a_server_has_a_vector() -> None:
    assert {case["code"] for kind, _, case in ALL if kind == "close-codes" and "name" in case} == set(
        CloseCode
    )


def test_the_protocol_lists_the_close_codes_of_a_server() -> None:
    rows = re.findall(r"^\| (\d{4}) \| (\w+) \|.*\| (yes|no) \|$", PROTOCOL.read_text(), re.MULTILINE)
    assert rows == [(str(int(c)), c.name, "yes" if c.may_reconnect else "no") for c in CloseCode]


def test_every_kind_of_vector_is_read() -> None:
    assert {kind for kind, _, _ in ALL} == {
        "session",
        "fragments",
        "codec",
        "correlations",
        "wishes",
        "proofs",
        "opcodes",
        "ids",
        "close-codes",
        "handshakes",  # tests/system/server/test_request_bytes.py
    }


def test_names_are_unique() -> None:
    names = [name for _, name, _ in ALL]
    assert len(set(names)) == len(names)


def test_every_rule_that_a_vector_names_is_in_the_protocol() -> None:
    sections = set(re.findall(r"^#+ ([0-9.]+?)\.? ", PROTOCOL.read_text(), re.MULTILINE))
    assert {case["rule"] for _, _, case in ALL if "rule" in case} <= sections
