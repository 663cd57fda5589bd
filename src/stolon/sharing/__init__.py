"""Knowledge that agents pass on: the module, its signature, the bank, the exchange."""
