"""The figures of the paper on bind and grow, keeping their results.

    nice -n 10 python benchmarks/growth_tables.py growth-figure6 --root ../shared/data [--scale half] ...

The same as `stolon reproduce FIGURE`, with its options; the experiment's folder (`reproduce/growth-SCALE` by default)
is where it goes on after a stop, and what figures on one stream share is done once. There is a report FIGURE.html in
it. Adds benchmarks/results/growth_tables.json an entry for each figure, scale and stream, in place of an earlier one of
the same (add --name WORD for one beside it).
"""

from paper_tables import keep

if __name__ == "__main__":
    keep(__doc__, "growth_tables", shares_work=True)
