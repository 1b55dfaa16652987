"""What a relay delivers to: one file for each kind of destination, behind one port."""
