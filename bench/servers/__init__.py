"""Servers to measure. Each prints its port, then obeys orders on standard input.

| order | effect |
|---|---|
| `everybody` | sends messages to every client, `each` of them a turn |
| `single` | sends messages to one client each, to all clients in turn |
| `collect` | collects garbage, before memory is read |

The server builds, encodes and sends each message in its own turn of the event loop, unless `each` says more.
The peers of others know the first order alone.
"""
