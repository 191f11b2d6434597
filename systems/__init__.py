"""Systems: a module or a folder per generator under test, baselines included."""
