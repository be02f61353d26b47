"""Networks and how they are trained: rows in memory or in the store, by hand or by autograd."""
