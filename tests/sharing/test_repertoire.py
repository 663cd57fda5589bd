"""A module that is rightly signed and of another network is held back, and the others go on being answered."""

import torch
from tests.shell.making import BACKBONE, FRUIT, SKY, single

from stolon import nets
from stolon.agent import Agent
from stolon.nets.backbone import pretrained
from stolon.sharing import lightweight, module
from stolon.sharing.trust import Author
from stolon.streams import folders


def test_what_does_not_fit_the_backbone_is_held_back_and_predictions_go_on(tmp_path, monkeypatch):
    weights = nets.make("digits-conv", input_shape=(3, 16, 16), seed=0).state_dict()
    backbone = pretrained(BACKBONE, weights)
    for name, classes in (("fruit", FRUIT), ("sky", SKY)):
        single(tmp_path / name, classes)
    with Agent.create(tmp_path / "bad", backbone) as bad, Agent.create(tmp_path / "good", backbone) as good:
        good.set_trust(good.trust.adding(Author(bad.key.public, "bad")))
        for agent, name in ((bad, "fruit"), (good, "sky")):
            for _ in agent.learn(folders.read_task(tmp_path / name, size=16)):
                pass
        own = bad.store.learner.knowledge("fruit")
        narrow = own._replace(
            weight=own.weight[:, :5],
            anchor=own.anchor._replace(
                **{part: getattr(own.anchor, part)[:, :5] for part in ("means", "examples", "probes")}
            ),
        )
        monkeypatch.setattr(bad.store.learner, "knowledge", lambda task: narrow, raising=True)
        good.receive(module.pack(lightweight.module_of(bad.store.learner, "fruit"), bad.key))
        (status,) = [status for status in good.modules() if not status.is_own]
        assert not status.active
        assert "does not fit the backbone" in status.reason
        assert len(good.predict(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).labels) == 2
