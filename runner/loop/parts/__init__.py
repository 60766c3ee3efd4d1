"""Parts of the runner that know no loop: forward pass, loss over a loader, batches read ahead."""
