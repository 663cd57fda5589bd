"""The thin shell: flags, files, clocks and the terminal around the library's calls."""
