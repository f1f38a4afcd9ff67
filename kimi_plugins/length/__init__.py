"""The length reward (k1.5 §2.3.3)."""
