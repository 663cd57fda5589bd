"""Plain reference learners: one method, one file."""
