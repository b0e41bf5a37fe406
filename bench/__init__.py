"""Speed and memory of the server, beside peers that do the same work in the same run.

`python -m bench` runs everything; `python -m bench --help` says what can be chosen. Each peer is a
server process with a load generator of its own, and what is measured is the CPU time that the
server process used, which other programs on the machine disturb less than the clock on the wall.
"""
