"""The figures of the paper on impressions, made anew; see :mod:`.plans` for what is run.

Importing this package imports none of its modules.
"""
