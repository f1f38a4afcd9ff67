"""Policy optimisation by online mirror descent (k1.5 §2.3.2): the loss, its advantages and the optimizer reset."""
