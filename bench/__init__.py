"""Speed and memory of the server, compared with peers that do the same work in the same run.

`python -m bench` runs everything; `python -m bench --help` lists the options. Each peer is a server
process with its own load generator. The benchmarks measure the CPU time of the server process,
which other programs on the machine disturb less than wall-clock time.
"""
