"""One agent of a population as a process: ``python -m stolon.experiments.skill_worker JOB``.

JOB is a :class:`stolon.experiments.skill_population.Job` with an index, as JSON. Messages are lines of JSON, in by
standard input, out by standard output; what people should read goes to standard error. When its input
ends, it ends.
"""

import json
import sys
from typing import Any, TextIO

import torch

from stolon.experiments.skill_population import Job, Member
from stolon.links.zenoh import ZenohLink
from stolon.links.zenoh_settings import ZenohSettings


def main(given: str, commands: TextIO, out: TextIO) -> None:
    """Run one agent until it is told to stop.

    Args:
        given: the job and the index, as JSON.
        commands: one message per line.
        out: takes the answers.
    """

    def tell(**message: Any) -> None:  # noqa: ANN401 - JSON values
        out.write(json.dumps(message) + "\n")
        out.flush()

    values = json.loads(given)
    index = values.pop("index")
    job = Job(**values)
    torch.set_num_threads(job.threads)
    connect = json.loads(commands.readline())["connect"]
    link = ZenohLink(ZenohSettings(connect=tuple(connect), population="skill"))
    member = Member(job, index, None, link)
    with member.agent as agent:
        agent.start()
        tell(endpoint=link.endpoints[0])
        for line in commands:
            step = json.loads(line)["step"]
            if step == "learn":
                member.learn(lambda text: tell(say=text))
                tell(learned=True)
            elif step == "wait":
                member.wait()
                tell(complete=True)
            elif step == "report":
                tell(report=member.report().to_json())
            elif step == "stop":
                return


if __name__ == "__main__":
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not get among the answers
    main(sys.argv[1], sys.stdin, answers)
