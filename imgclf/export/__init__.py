"""Mobile files: converted in a child process, proven against Keras. Imports nothing."""
