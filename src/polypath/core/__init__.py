"""Contracts: tasks, examples, components, paths, networks, methods, runs, results. No training code."""
