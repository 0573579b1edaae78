"""What a user touches: the language, the command line, the Python interface."""
