"""Pages that show a person what a run did: pictures from arrays, HTML from pictures."""
