"""How any run behaves: its folder, lock, log, progress, interruption, where it runs."""
