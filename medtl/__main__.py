"""`python -m medtl` is `medtl`; this is what torchrun starts."""

from medtl.cli import main

if __name__ == "__main__":
    main()
