"""Work that runs in Jobs: how a Job looks, what its state means, where its credentials come from."""
