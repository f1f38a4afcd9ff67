"""Completions of many prompts outside of a run, by the engines a run generates with."""
