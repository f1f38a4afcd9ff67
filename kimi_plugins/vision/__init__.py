"""Vision data (k1.5 §2.3.5): the real world's, procedural scenes, and text rendered as images."""
