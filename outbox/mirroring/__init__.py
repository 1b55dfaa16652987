"""What any mirrored row needs, whatever it is a row of: the rules by which two states of it become one."""
