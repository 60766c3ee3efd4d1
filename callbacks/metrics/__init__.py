"""Numbers per epoch, exact over ranks: metrics of batches, of boxes, and of neighbours."""
