"""Maps and scores on disk: layout, writing, reading, and the colour scale that they are drawn with."""
