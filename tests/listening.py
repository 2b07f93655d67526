"""A progress that keeps what is said."""

from recon4d.progress import Silent


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
