"""Composition root: settings become clients, clients become reconcilers, reconcilers meet kopf and REST."""
