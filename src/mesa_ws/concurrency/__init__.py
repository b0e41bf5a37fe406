"""What every part needs that runs in an event loop.

| module | holds |
|---|---|
| `tasks` | tasks that their owner alone ends |
"""
