"""Lightweight learners: a frozen backbone, and per task a head, an anchor and maybe biases."""
