"""Tools for code that runs in an event loop.

| module | subject |
|---|---|
| `tasks` | tasks that only their owner ends, and jobs that are started again |
| `queues` | ordered queues, and batches |
| `retry` | pauses between attempts |
| `limited_log` | a log that strangers cannot flood |
| `event_loops` | one object for each event loop, closed together with it |
| `left_behind` | the log line about tasks and threads that do not end |
| `blocking` | errors and warnings where async and plain code are mixed up |
| `happy_eyeballs` | TCP connections to the first address that answers |
"""
