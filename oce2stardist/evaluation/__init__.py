"""Score predicted labels against true ones and annotations."""
