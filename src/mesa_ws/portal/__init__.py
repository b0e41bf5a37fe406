"""Portals: processes that handle what clients do.

| module | subject |
|---|---|
| `worker` | a portal without a process around it |
| `hooks` | the decorators that register the application's handlers |
| `event` | the argument of a handler |
| `calls` | calls of the handlers of an event, and the reply to a request |
| `native` | the sources of Mesa's own wire: owned queues, and observing |
| `mesa1` | the source of the wire of 1.x |
| `assignment` | which queues a portal should own, and owning them |
| `handling` | reading owned queues, handling their events in order, and recording that |
"""
