"""Calls of the application's functions: `async def` in the event loop, `def` in threads.

| module | subject |
|---|---|
| `caller` | calls of handlers, and the check of their signatures |
| `threads` | threads for plain functions |
"""
