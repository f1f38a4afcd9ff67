"""Rows of data sets, images and files, as every command and the trainer read them."""
