"""`python -m monitor` is `trapwatch`."""

from monitor.cli import main

if __name__ == "__main__":
    main()
