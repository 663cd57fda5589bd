"""Two learners on the same random network share what they learned, as signed modules of two kilobytes."""

import tempfile
from pathlib import Path

import torch

from stolon import learners, streams
from stolon.sharing import Author, Bank, Key, Trust, module, supermasks
from stolon.sharing.envelope import TRUST, seal

SETTINGS = {
    "outputs": 2, "impressions": 3, "epochs": 15, "learning_rate": 3e-3,
    "alpha_epochs": 60, "alpha_learning_rate": 0.1, "alpha_optimizer": "adam",
}  # fmt: skip

ant, bee = Key.generate(), Key.generate()
trust = Trust.fresh(bee.public, "bee").adding(Author(ant.public, "ant"))
stream = streams.make("digits-split", seed=0)

# Ant learns five tasks: the first three leave a mask each, the others are sums of these.
mine = learners.make("impressions", net="mlp-512", **SETTINGS)
for task in stream:
    for _ in mine.learn(task):
        pass

with tempfile.TemporaryDirectory() as folder, Bank(Path(folder, "bank")) as bank:
    bank.set_trust(seal(TRUST, trust.to_payload(), bee))

    # What ant sends is files; bee's bank checks them before anything of them is used.
    for name in mine.tasks:
        data = module.pack(supermasks.module_of(mine, name), ant)
        id_ = bank.add(data, backbone=mine.frozen.fingerprint())
        print(f"{name}: {bank.module(id_).method}, {len(data):,} bytes")

    # Bee has the same network, since it is made with the same settings, and knows nothing yet.
    found = {stored.manifest.task: bank.module(stored.id) for stored in bank.modules()}
    theirs = learners.make("impressions", net="mlp-512", **SETTINGS)
    supermasks.take_basis(theirs, [each for each in found.values() if each.method == "supsup"])
    for name in mine.tasks:
        supermasks.adopt(theirs, found[name])

last = stream[-1]
x, y = last.test.batch(torch.arange(len(last.test)))
answers = theirs.predict(x, last.name)
print(f"bee answers ant's {last.name}: {(answers.labels == y).float().mean():.2f} right")
print("to the last bit as ant does:", torch.equal(theirs.logits(x, last.name), mine.logits(x, last.name)))
