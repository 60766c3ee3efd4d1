"""The pictures, curves and worst samples of a run as files that open without TensorBoard."""
