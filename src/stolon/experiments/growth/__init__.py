"""The experiments of "Learn to Bind and Grow": what is run, run, told; see :mod:`.plans`.

Importing this package imports none of its modules.
"""
