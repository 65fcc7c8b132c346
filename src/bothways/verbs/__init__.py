"""What a user does, one verb a file; the command line and the Python call are the same function."""
