"""Selective layer transfer: which layers a new task shares with earlier ones, and who decides.

Mechanisms say how a shared layer's parameters are made (``transfer="hard"``, ``"tensor-factorization"``,
``"deconvolution"``), configurations say which layers are shared, and a method chooses the configuration: the user
(``static``), expectation maximisation while the task trains (``lasem``), trying all (``brute-force``), or a relaxed
architecture search (``darts``).
"""
