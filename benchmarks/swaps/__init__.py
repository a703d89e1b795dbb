"""Reloads and rollbacks under a constant load, with every answer checked, and rollback in every situation."""
