"""Showing: tables, figures and pages, made from result records and never from live models."""
