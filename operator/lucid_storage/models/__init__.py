"""Pydantic models: the one source of CRDs, chart and API schemas."""
