"""Experiments of the DF-CNN paper (Lee, Stokes and Eaton 2019): lifelong and multi-task learning."""
