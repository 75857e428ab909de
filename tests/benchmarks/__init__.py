"""Benchmarks: ``python -m tests.benchmarks --help``. Commands that print JSON lines, no tests."""
