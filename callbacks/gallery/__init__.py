"""Looking at the samples of a run, in TensorBoard, in one file and in notebooks; reads files of runs, and no torch."""
