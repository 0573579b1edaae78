"""The commands of `hectorite`, one file each."""
