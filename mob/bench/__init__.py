"""Benchmark scenarios: what is run, how much of it, what must come out (docs/benchmarks.md).

An edge, as the command line is: it may use everything below it, and nothing below it knows of it.
"""
