"""Export the model of a run to ONNX or to a ``torch.export`` program, and check the file against the model."""
