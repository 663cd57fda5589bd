"""The tables and figures of the papers on selective layer transfer, made anew; see :mod:`.plans` for what is run.

Importing this package imports none of its modules.
"""
