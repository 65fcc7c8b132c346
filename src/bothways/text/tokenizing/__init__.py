"""Tokenizers: trained, read from files, and measured."""
