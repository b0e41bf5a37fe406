"""What both wires over Redis share: leases of nodes, rights of Redis users, handshakes, scripts."""
