"""How much the page takes from anybody."""

from dataclasses import dataclass

from stolon import settings

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What the page takes, from all who connect together unless it says otherwise.

    Attributes:
        body: bytes of one upload.
        drained: bytes of an upload that is too large which are still read and thrown away, so that a browser
            gets to see the answer; it sees none while it is sending.
        body_s: seconds that an upload may take.
        held: bytes of all uploads in memory. Who holds most of them is refused to make room for others.
        connections: that are open. Who has kept us waiting longest makes room for others.
        header_s: seconds in which a connection must send a request's headers.
        answer_s: seconds after which a connection is closed whatever it is doing.
        decodes: pictures that are decoded and classified at once.
        queue: pictures that wait for it.
        rows: tasks on one page of the list of tasks.
        matrix: tasks up to which the confusion is drawn as a matrix; beyond, the largest are listed.

    Raises:
        SettingError: one of them is not above zero.
    """

    body: int = 8 * 2**20
    drained: int = 32 * 2**20
    body_s: float = 10.0
    held: int = 16 * 2**20
    connections: int = 32
    header_s: float = 10.0
    answer_s: float = 60.0
    decodes: int = 4
    queue: int = 64
    rows: int = 100
    matrix: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            settings.above(name, value, 0)
