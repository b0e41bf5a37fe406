"""A server node without sockets: connections, who they belong to, and the application's handlers."""
