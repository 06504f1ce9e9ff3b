"""The learned modules that are yet to be imported: each is tried before, unless it was verified."""

from __future__ import annotations

import sys

from hookd.preload_check import BANNED, KEEPS_WHAT_IT_FINDS, is_banned
from hookd.trial import start_trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Container, Dict, List, Optional

    from hookd.trial import Trial
    from hookd.trial_gate import Blame


class LearnedQueue:
    """What is ready to be imported, what is not, and the trial that is to tell."""

    def __init__(self, leave_template: Callable[[], None], log: Callable[[str], None]) -> None:
        self._leave_template = leave_template
        self._log = log
        self._ready: List[str] = []
        self._untried: List[str] = []
        self._blames: Dict[str, Blame] = {
            name: {"reason": KEEPS_WHAT_IT_FINDS, "lasting": True} for name in BANNED
        }
        """These modules are not to be imported, nor what imports them: as trials have found."""
        self._trial: Optional[Trial] = None
        self._was_empty = True

    def append(self, names: List[str], verified: bool) -> None:
        """Add these at the end of those that are verified, or of those that are not."""
        if names:
            (self._ready if verified else self._untried).extend(names)
            self._was_empty = False

    def note_import(self) -> None:
        """Something was imported that was never in here: the next look finds it to be empty."""
        self._was_empty = False

    def drop(self) -> None:
        """Forget all of it."""
        self._ready.clear()
        self._untried.clear()
        self._end_trial()

    def has_become_empty(self) -> bool:
        """Whether all is done, for the first time since anything was added or imported."""
        is_empty = not self._ready and not self._untried and self._trial is None
        became, self._was_empty = is_empty and not self._was_empty, is_empty
        return became

    def is_ready(self) -> bool:
        """Whether there is something to be done now. Else a trial is to be waited for, if any."""
        return bool(self._ready) or (bool(self._untried) and self._trial is None)

    def take_ready(self) -> Optional[str]:
        """Take the next module that may be imported now, if there is one."""
        if self._ready:
            return self._ready.pop(0)
        if self._untried and self._trial is None and self._is_decided(self._untried[0]):
            return self._untried.pop(0)
        return None

    def _is_decided(self, name: str) -> bool:
        return name in sys.modules or is_banned(name)

    # The trial.

    def start_trial(self) -> None:
        """Have those that are not verified tried, as far as there are any and no trial runs."""
        if not self._untried or self._trial is not None:
            return
        names = list(dict.fromkeys(self._untried))
        self._untried = list(names)
        try:
            self._trial = start_trial(names, self._blames, self._leave_template)
        except OSError as error:
            self._give_up("learned modules cannot be tried: fork: {}".format(error.strerror))

    def trial_pid(self) -> Optional[int]:
        """The child that is no worker, if there is one."""
        return None if self._trial is None else self._trial.pid

    def descriptors(self) -> List[int]:
        """What can be read when a trial has something to tell."""
        return [] if self._trial is None else [self._trial.descriptor]

    def is_due(self, ready: Container[int]) -> bool:
        """Whether the trial has something to tell, these being readable, or has hung for long."""
        trial = self._trial
        return trial is not None and (trial.descriptor in ready or not trial.seconds_left())

    def seconds_left(self) -> Optional[float]:
        """How long may be waited. None: until something comes."""
        if self.is_ready():
            return 0
        return None if self._trial is None else self._trial.seconds_left()

    def leave(self) -> None:
        """In a process that was forked from the template."""
        if self._trial is not None:
            self._trial.close()

    def take_verdicts(self) -> List[Dict[str, Any]]:
        """See to the trial. Returns what was refused, and why."""
        trial = self._trial
        if trial is None:
            return []
        refused = []
        for verdict in trial.receive():
            name = verdict["verified" if "verified" in verdict else "refused"]
            self._untried.remove(name)
            if "verified" in verdict:
                self._ready.append(name)
            else:
                self._blames.update(verdict.get("blames", {}))
                refused.append(verdict)
        if trial.has_ended:
            self._after_trial(trial)
        return refused

    def _after_trial(self, trial: Trial) -> None:
        # What is behind the module that it ended by gets another.
        self._end_trial()
        if trial.failure is not None:
            self._give_up("a trial of learned modules failed:\n{}".format(trial.failure))
        elif not trial.has_told:
            self._give_up("a trial of learned modules ended before its first")

    def _give_up(self, reason: str) -> None:
        # Without a word about each: it is not their fault. Hooks import them by themselves.
        self._log(reason)
        self._untried.clear()

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._trial.kill()
            self._trial = None
