"""Nodes over the shipped scripts: the behaviour of servers.

Every method is an event that may happen at any time: it does nothing when there is nothing to do.
"""

from collections.abc import Callable, Sequence

from mesa_ws.messages.receipt import Position

from .calls import AttachRequest, Page
from .device import Connection
from .masters import ALL, Home, Process, Sentinels, is_misled
from .node import Hint, Node
from .store import Store
from .watch import IDS, Watch


class Cluster:
    """The nodes of one example.

    Args:
        stores: an empty Redis, and another one for a failover.
        window_ms: how long acknowledged messages are kept for clients that come back.
        is_split: whether an attach registers only when its reply arrives; the model must object.
        is_scattered: whether each connection of a process queries the master; the model must object.
    """

    def __init__(
        self,
        stores: tuple[Store, Store],
        window_ms: int,
        *,
        is_split: bool = False,
        is_scattered: bool = False,
    ) -> None:
        self._home = Home(stores[0], Watch(stores[0], window_ms, self._proven))
        self._homes = {stores[0].port: self._home}
        self._spare = stores[1]
        self._sentinels = Sentinels(stores[0].port)
        self._is_split = is_split
        self._is_scattered = is_scattered
        self._nodes_made = 0
        self.nodes: list[Node] = []
        self.nodes = [self._new_node(), self._new_node()]

    @property
    def _store(self) -> Store:
        """The current master."""
        return self._home.store

    @property
    def _watch(self) -> Watch:
        """The expected state of the current master."""
        return self._home.watch

    def _at(self, node: Node) -> Watch:
        """Return the expected state of the Redis that a node uses."""
        return self._homes[node.process.port(0)].watch

    def reach(self, node: Node) -> None:
        """Let a node use its connection, which shows whether it leads to a master."""
        if self._finds_no_master(node.process, 0):
            self.ask(node, ALL)

    def ask(self, node: Node, heard: Sequence[int]) -> None:
        """Let a node receive reports of some Sentinels, and change the master as a whole."""
        before = node.process.port(0)
        node.process.read(self._sentinels.reports(heard), self._store.now_ms / 1000, 0)
        if node.process.port(0) != before:
            self._cut(node, loses_hints=True)

    def _finds_no_master(self, process: Process, connection: int) -> bool:
        """Return whether a process has to query the Sentinels, as Redis does not answer as a master."""
        if len(self._homes) == 1:
            return False
        reply = self._homes[process.port(connection)].store.probe()
        has_to_ask = is_misled(reply)
        assert has_to_ask or not isinstance(reply, Exception), f"a process has to stay at its master: {reply}"
        return has_to_ask

    def deliver(self, node: Node, count: int) -> None:
        """Deliver hints to a node."""
        for _ in range(min(count, len(node.hints))):
            node.hear(node.hints.popleft())

    def lose_hint(self, node: Node) -> None:
        """Lose a hint, which the next hint reveals."""
        if node.hints and node.counter is not None:
            node.hints.popleft()

    def cut_subscription(self, node: Node) -> None:
        """Cut the subscription of a node with everything under way, and let it subscribe again."""
        node.hints.clear()
        node.doubt()

    def answer(self, node: Node) -> None:
        """Deliver a page to its node."""
        if node.pending:
            connection = node.pending[0][0]
            if self._is_split and connection.at is None and connection in node.connections:
                id = connection.id
                self._register(node, AttachRequest(id, len(node.of(id)), node.members[id]))
            page = node.take_page()
            if page is not None and page.lost and not connection.device.is_wire2:
                start = Position(page.epoch, page.start)  # 1.x clients skip what is lost
                version = node.members[connection.id]
                node.outgoing.append(self._acknowledger(node, connection.id, start, start.sequence, version))

    def listen(self, node: Node) -> None:
        """Let a node process frames of devices."""
        for connection in node.connections:
            while connection.answers:
                node.take_answer(connection)

    def pull(self, node: Node) -> None:
        """Let a node read on for connections that are behind."""
        self.reach(node)
        for connection in list(node.connections):
            if connection.is_behind and connection.at is not None and not connection.is_reading:
                connection.is_behind = False
                id, wire2 = connection.id, int(connection.device.is_wire2)
                self._ask(
                    node, connection, AttachRequest(id, "", node.members[id], 0, "read", connection.at, wire2)
                )

    def acknowledge(self, node: Node) -> None:
        """Let a node post the acknowledgements of its devices."""
        for id, version in node.members.items():
            for proof in node.proofs(id):
                node.outgoing.append(self._acknowledger(node, id, *proof, version))

    def flush(self, node: Node, count: int = 1000) -> None:
        """Deliver posted commands of a node to Redis."""
        if node.outgoing:
            self.reach(node)
        for _ in range(min(count, len(node.outgoing))):
            node.outgoing.popleft()()

    def beat(self, node: Node) -> None:
        """Let a node renew its lease."""
        self.reach(node)
        pulse = self._at(node).beat(node.name)
        self._collect_hints()
        if not pulse.has_lease:
            self._rejoin(node)
        elif pulse.was_passed_over:
            node.doubt()

    def repair(self, node: Node) -> None:
        """Let a node resynchronize: it registers its ids, removes the others, and reads everything again."""
        if not node.is_in_doubt:
            return
        self.reach(node)
        self.flush(node)
        node.is_in_doubt = False
        for id, version in list(node.members.items()):
            self._register(node, AttachRequest(id, len(node.of(id)), version))
        for id in IDS:
            if self._at(node).holds(node.name, id) and id not in node.members:
                self._at(node).detach(node.name, id, node.version)
        node.fall_behind()

    def kill(self, node: Node) -> None:
        """Kill a node with all its unwritten commands, and start another one."""
        for connection in node.connections:
            connection.device.connection = None
        self.nodes[self.nodes.index(node)] = self._new_node()

    def reap(self) -> None:
        """Let some node clean up after a dead node."""
        self._watch.reap()

    def depart(self) -> None:
        """Let some node collect the ids that went offline."""
        self._watch.depart()

    def acknowledge_nonsense(self, node: Node, id: str, is_beyond: bool) -> None:
        """Let a node acknowledge a position that Redis never gave out."""
        self.reach(node)
        seen = self._at(node).seen(id)
        if seen is not None and id in node.members:
            never = Position(seen.epoch, seen.top + 1) if is_beyond else Position("0123456789abcdef", 1)
            self._at(node).acknowledge(node.name, id, never, 0, node.members[id])

    def _cut(self, node: Node, *, loses_hints: bool) -> None:
        node.outgoing.clear()
        node.pending.clear()
        node.doubt()
        if loses_hints:
            node.hints.clear()
        for connection in list(node.connections):
            connection.is_behind, connection.is_reading = True, False
            if connection.at is None:
                self._leave(node, connection)

    def _leave(self, node: Node, connection: Connection) -> None:
        node.connections.remove(connection)
        connection.device.connection = None
        id, version, sockets = connection.id, node.next_version(), len(node.of(connection.id))
        if sockets:
            node.members[id] = version
            node.outgoing.append(lambda: self._register(node, AttachRequest(id, sockets, version)))
        else:
            del node.members[id]
            node.outgoing.append(lambda: self._at(node).detach(node.name, id, version))

    def _new_node(self) -> Node:
        self._nodes_made += 1
        process = Process(is_scattered=self._is_scattered)
        process.read(self._sentinels.reports(ALL), self._store.now_ms / 1000, 0)
        node = Node(f"node{self._nodes_made}", process)
        self._at(node).join(node.name)
        self._collect_hints()
        return node

    def _node_of(self, connection: Connection) -> Node:
        return next(node for node in self.nodes if connection in node.connections)

    def _proven(self, name: str, id: str) -> Sequence[Position]:
        connections = [each for node in self.nodes if node.name == name for each in node.of(id)]
        return [each.proven for each in connections if each.proven is not None]

    def _ask(self, node: Node, connection: Connection, request: AttachRequest) -> None:
        """Send an attach that reads; its page is under way."""
        self.flush(node)
        page = self._at(node).attach(node.name, request)
        if page is False:
            self._rejoin(node)
            page = self._at(node).attach(node.name, request)
        assert isinstance(page, Page)
        if connection.proven is None:
            connection.proven = Position(page.epoch, page.start)
        connection.is_reading = True
        node.pending.append((connection, page))

    def _register(self, node: Node, request: AttachRequest) -> None:
        if self._at(node).attach(node.name, request) is False:
            self._rejoin(node)
            self._at(node).attach(node.name, request)

    def _rejoin(self, node: Node) -> None:
        self._at(node).join(node.name)
        self._collect_hints()
        node.doubt()

    def _acknowledger(
        self, node: Node, id: str, position: Position, floor: int, version: int
    ) -> Callable[[], None]:
        return lambda: self._at(node).acknowledge(node.name, id, position, floor, version)

    def _collect_hints(self) -> None:
        for home in self._homes.values():
            for channel, frame in home.store.hints():
                for node in self.nodes:
                    if channel.endswith(f":{node.name}") and self._at(node) is home.watch:
                        hint = Hint(frame)
                        node.hints.append(hint)
                        for id, position in hint.places.items():
                            home.watch.means(id, position, hint.message.message_id)
