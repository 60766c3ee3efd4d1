"""The tab Samples of TensorBoard: its addresses, and who may save marks."""
