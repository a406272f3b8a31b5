"""Live definitions as resources: observed state in, manifests out. Pure; reading and writing are app.export's.

What is written describes the definition exactly, so that applying it changes nothing; what cannot be described is
left out and said.
"""
