"""kopf glue: watch events become triggers of the engine. Nothing is decided here."""
