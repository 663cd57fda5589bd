"""The tables of the papers on selective layer transfer, keeping their results.

    nice -n 10 python benchmarks/lasem_tables.py lasem-figure4 --root ../shared/data [--scale half] [--out FOLDER] ...

The same as `stolon reproduce TABLE`, with its options; the experiment's folder (`reproduce/TABLE-SCALE` by default) is
where it goes on after a stop. Adds benchmarks/results/lasem_tables.json an entry for each table, scale and stream, in
place of an earlier one of the same (add --name WORD for one beside it): tables as told, accuracies and seconds of every
task and seed, chosen configurations, settings.
"""

from paper_tables import keep

if __name__ == "__main__":
    keep(__doc__, "lasem_tables", shares_work=False)
