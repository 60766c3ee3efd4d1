"""Where masks and boxes lie in their images."""
