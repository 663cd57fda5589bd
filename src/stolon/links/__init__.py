"""What moves the exchange's bytes between agents."""
