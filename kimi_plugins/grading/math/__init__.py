"""Whether a mathematical answer equals its reference, by rules."""
