"""Start the web app; nothing else. A Hugging Face Space runs this file."""

from sdplay.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve"]))
