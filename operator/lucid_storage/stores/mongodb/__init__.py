"""MongoDB: the port that kinds speak to, our types, and the adapter over PyMongo."""
