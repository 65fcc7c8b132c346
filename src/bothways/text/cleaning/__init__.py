"""Cleaning and filtering of documents."""
