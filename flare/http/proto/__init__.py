"""HTTP on the wire, without I/O."""
