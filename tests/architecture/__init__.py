"""What holds the shape of the code: layers, purity, sizes, exports, packaging."""
