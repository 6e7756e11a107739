"""Turn predicted offsets into pseudo labels: foreground, clusters, halo, pieces, choice, trust."""
