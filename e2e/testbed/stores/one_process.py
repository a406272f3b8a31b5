"""A store that is one process."""

from abc import ABC, abstractmethod

from testbed.process import Daemon


class OneProcess(ABC):
    """What may be done to the process of a store."""

    @property
    @abstractmethod
    def daemon(self) -> Daemon:
        """The process of the server; raises TestbedError when its program cannot be had."""

    def start(self) -> None:
        """Returns when the server answers; harmless when it runs already."""
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        self.daemon.kill()

    def restart(self) -> None:
        self.daemon.restart()

    def freeze(self) -> None:
        self.daemon.freeze()

    def thaw(self) -> None:
        self.daemon.thaw()

    def running(self) -> bool:
        return self.daemon.running()
