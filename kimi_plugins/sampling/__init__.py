"""Curriculum and prioritised sampling of prompts (k1.5 §2.3.4)."""
