"""Small pictures of samples: which are taken, how they are made, and the files that hold them."""
