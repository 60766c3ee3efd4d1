"""Find masks and their classes: in folders, in tables, and as outlines of COCO."""
