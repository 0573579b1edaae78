"""Which statements are a kernel of a known shape: product, segment product, scattered product."""
