"""`openrlhf kimi migrate`: launch scripts of OpenRLHF as configurations."""
