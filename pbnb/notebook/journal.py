"""Shows in the notebook what pbnb logs: above all the errors in methods that peers call.

Such an error has no cell of its own to appear in. It appears below the cell that serves the
object, because output belongs to the context in which a connection was accepted.
"""

from __future__ import annotations

import logging
import sys

from ..failure import shown

__all__ = ["Journal"]

_LOGGER = logging.getLogger("pbnb")
# More is no message but an attack on the notebook's file.
_LONGEST = 20_000


class Journal(logging.Handler):
    """Writes pbnb's log to the standard error of the cell that it belongs to.

    It is silent where the user has made the logging module write pbnb's records elsewhere.
    """

    def install(self) -> None:
        """Begins to show the log."""
        _LOGGER.addHandler(self)

    def uninstall(self) -> None:
        """Ends what `install` began."""
        _LOGGER.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one record, unless another handler gets it.

        Args:
            record: What was logged.
        """
        if self._is_heard_by_others(record.name):
            return
        try:
            # A peer has chosen some of these words: they must not move the cursor or worse.
            print(shown(self.format(record), _LONGEST, lines=True), file=sys.stderr)
        except Exception:
            self.handleError(record)

    def _is_heard_by_others(self, name: str) -> bool:
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False
