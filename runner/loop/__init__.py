"""The training loop: ``DictRunner`` and the parts it is made of."""
