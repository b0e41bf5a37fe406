"""What message sync costs: the server, Redis, and dispatchers, beside the same work without sync."""
