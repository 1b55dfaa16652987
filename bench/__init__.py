"""Benchmarks: each figure beside something simpler that was measured in the same minutes, on this machine."""
