"""Measures pbnb beside Twisted's Perspective Broker and beside the raw floor, in one run.

``python -m benchmarks`` runs everything and prints a table. Each peer has a client and a server, in
processes of their own, over TCP on this machine::

    __main__.py   the command line, and the order of the rounds
    workloads.py  what is measured: one function each
    measure.py    clocks, percentiles and memory
    peers/        who is measured: one class each
    pairs.py      a peer's two processes, seen from the process that asks them
    child.py      what runs in each of the two
    report.py     the tables, and what the JSON file says
    chart.py      the chart

Figures move with the machine and its load. What stays is how peers of one run compare, so tables
show every figure with its ratio to the floor and to Twisted.
"""
