"""Cost of message sync for the server, Redis and dispatchers, compared with the same work without sync."""
