"""Making the banks of agents equal: a state machine without I/O, and what drives it."""
