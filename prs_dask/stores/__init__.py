"""Stores of files beyond this machine, and the node's cache of their files."""
