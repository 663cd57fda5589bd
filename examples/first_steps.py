"""First steps: learn six tasks of handwritten digits one after the other, then see what was forgotten.

    python examples/first_steps.py

The digits come with scikit-learn: nothing is downloaded, and it takes a few seconds.
"""

from stolon import learners, streams
from stolon.experiments import evaluate

stream = streams.make("digits-mixed", seed=0)
learner = learners.make("finetune", net="mlp-100-100", epochs=5)
for task in stream:
    for epoch in learner.learn(task):  # stops and goes on between any two epochs
        print(f"{epoch.task}, epoch {epoch.number}: validation accuracy {epoch.val_accuracy:.2f}")

print("after the last task:")
for task in stream:
    answers = evaluate(learner, task)
    assert answers is not None  # it is None for tasks without test data
    print(f"{task.name}: test accuracy {answers.accuracy:.2f}")
