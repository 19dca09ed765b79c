"""Random jobs with random faults, each from a seed: real engine and sender, vendors in memory."""
