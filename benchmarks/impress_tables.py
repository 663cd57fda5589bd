"""The figures of the paper on impressions, keeping their results.

    nice -n 10 python benchmarks/impress_tables.py impress-figure3 --root ../shared/data [--scale half] ...

The same as `stolon reproduce FIGURE`, with its options; the experiment's folder (`reproduce/impress-SCALE` by default)
is where it goes on after a stop, and what figures on one stream share is done once. There is a report FIGURE.html in
it. Adds benchmarks/results/impress_tables.json an entry for each figure, scale and stream, in place of an earlier one
of the same (add --name WORD for one beside it; runs of another --dataset have its name): tables as told, every result
of every task and run, settings.
`impress-table2` takes no data and no scale.
"""

from paper_tables import keep

if __name__ == "__main__":
    keep(__doc__, "impress_tables", shares_work=True)
