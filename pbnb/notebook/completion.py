"""Completes what the magics take: names and addresses, variables, and options.

What can be completed is read from connection files and from this kernel, never from the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult
from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Completion"]

Candidates = Callable[[], Iterable[str]]


class Completion:
    """A matcher for the arguments of some magics.

    A matcher, because IPython's complete_command hook does not fire after ``x = %pb_connect ``.

    Args:
        shell: The shell whose completion is extended.
        magics: For each magic what can be typed after it, asked for at each completion.
    """

    def __init__(self, shell: InteractiveShell, magics: Mapping[str, Candidates]) -> None:
        self._shell = shell
        self._magics = magics
        names = "|".join(map(re.escape, magics))
        # The last word after the magic; the magic has its % or, with automagic, begins the line.
        self._use = re.compile(rf"(?:%|^\s*)({names})\s+(?:.*\s)?(\S*)$")
        # IPython takes a bound method for a matcher of its first API, unless it is told.
        self._matcher = self._make_matcher()

    def install(self) -> None:
        """Begins to complete."""
        self._shell.Completer.custom_matchers.append(self._matcher)

    def uninstall(self) -> None:
        """Ends what `install` began."""
        if self._matcher in self._shell.Completer.custom_matchers:
            self._shell.Completer.custom_matchers.remove(self._matcher)

    def _make_matcher(self) -> Callable[[CompletionContext], SimpleMatcherResult]:
        def pbnb_matcher(context: CompletionContext) -> SimpleMatcherResult:
            return self.complete(context.text_until_cursor)

        pbnb_matcher.matcher_api_version = 2  # type: ignore[attr-defined]  # how IPython is told
        return pbnb_matcher

    def complete(self, line: str) -> SimpleMatcherResult:
        """Returns what can follow a line, in the form that IPython asks matchers for.

        Args:
            line: The line up to the cursor.
        """
        use = self._use.search(line)
        if use is None:
            return {"completions": [], "suppress": False}
        magic, word = use.groups()
        found = [
            SimpleCompletion(candidate, type="argument")
            for candidate in self._magics[magic]()
            # Options are many: they are offered to those who have begun to type one.
            if candidate.startswith(word) and (word or not candidate.startswith("-"))
        ]
        # What means something to Python means nothing there.
        return {
            "completions": found,
            "suppress": bool(found),
            "matched_fragment": word,
            "ordered": True,
        }
