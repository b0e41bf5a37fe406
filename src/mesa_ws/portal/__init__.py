"""Portals: processes that handle what clients do.

| module | holds |
|---|---|
| `worker` | a portal without a process around it |
| `hooks` | the application's handlers |
| `answering` | answering requests with what handlers return |
| `event` | what handlers are given |
| `work` | how a portal gets what it handles: `lasting` on Mesa's own wire, `fleeting` on that of 1.x |
| `holdings`, `share` | which queues this portal owns, and which it should |
| `owned` | one of them, with what was read of it |
| `reader`, `desk`, `ledger` | reading letters, having them handled, and noting that |
| `observer` | seeing everything, and taking nothing |
| `seats` | which inbox an address leads to |
"""
