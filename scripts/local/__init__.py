"""Running trials on this machine."""
