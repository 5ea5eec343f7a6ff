"""Coverage-guided fuzzing of everything that takes bytes from a stranger.

Each target is a module here with a function ``run(data)``, which does something with the bytes of the fuzzer and
raises when what must hold does not. Targets do without atheris: `test_findings.py` runs them over the inputs that are
kept. ``python -m tests.fuzz`` (``make fuzz``) has atheris look for more.
"""
