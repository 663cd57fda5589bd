"""Searches over grow sequences: run, drawn, and chosen from; see :mod:`.searching`.

Importing this package imports none of its modules.
"""
