"""Two agents, each of which learned one task, exchange what they learned; then both can do both."""

import tempfile
import time
from pathlib import Path

import torch

from stolon import Agent, streams
from stolon.links.memory import MemoryNetwork
from stolon.nets.backbone import Backbone
from stolon.sharing import Author

left, right = streams.make("digits-split", seed=0, tasks=2)
network = MemoryNetwork()  # ZenohLink(ZenohSettings(...)) between machines

torch.manual_seed(0)
backbone = Backbone(
    torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU()), None, "random"
)

with tempfile.TemporaryDirectory() as folder:
    Agent.create(Path(folder, "ant"), backbone).close()
    Agent.create(Path(folder, "bee"), backbone).close()
    with (
        Agent(Path(folder, "ant"), backbone, network.link()) as ant,
        Agent(Path(folder, "bee"), backbone, network.link()) as bee,
    ):
        ant.set_trust(ant.trust.adding(Author(bee.key.public, "bee")))
        bee.set_trust(bee.trust.adding(Author(ant.key.public, "ant")))
        ant.start()
        bee.start()
        for agent, task in ((ant, left), (bee, right)):
            for _ in agent.learn(task):
                pass
        deadline = time.monotonic() + 30
        while {len(ant.modules()), len(bee.modules())} != {2} and time.monotonic() < deadline:
            time.sleep(0.05)
        for module in bee.modules():
            taught = "itself" if module.is_own else module.author_name
            state = "in use" if module.active else f"held back: {module.reason}"
            print(f"bee knows {module.name}, taught by {taught}, {module.bytes / 1000:.0f} kB, {state}")
        x, _ = left.test.batch(torch.arange(8))
        print("bee's answers for ant's task:", bee.predict(x, left.name).classes)
