"""The servers that are measured. Each prints its port, then takes orders on standard input.

| order | what it does |
|---|---|
| `everybody` | sends messages to every client |
| `single` | sends messages to one client each, to all clients in turn |
| `collect` | collects garbage, before memory is read |

Every message is built, encoded and sent in a turn of the event loop of its own.
"""
