"""Faults made on purpose on real services: then every number is right, or the loss is told."""
