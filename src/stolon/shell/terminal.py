"""What is printed on: names of folders, tasks and classes come out as they are."""

from rich.console import Console


def console() -> Console:
    """A console that takes neither ``[bold]`` nor ``:smile:`` in a person's names for its own words."""
    return Console(markup=False, emoji=False)
