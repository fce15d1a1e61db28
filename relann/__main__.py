"""The command line as a module, for launchers: `torchrun … -m relann train FILE`."""

from relann.cli import main

if __name__ == "__main__":
    main()
