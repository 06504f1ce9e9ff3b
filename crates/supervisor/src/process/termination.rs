//! How processes are ended: the stages, in their order and with their times.
//!
//! Asked by a signal, then told by the end of its input, then killed. Each kind
//! of process goes through some of these. The owner of the process carries the
//! stages out, and reads the process's output meanwhile.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::limits::Timeout;

/// What is done to a process that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Send it this signal.
    Signal(Signal),
    /// Close its input: it kills what it has started, and exits.
    CloseInput,
    /// Send it SIGKILL.
    Kill,
    /// It was killed, and its parent does not report its end: end the parent.
    EndParent,
}

/// How far the termination of a process has come.
#[derive(Clone, Debug)]
pub(crate) struct Termination {
    /// The stages to come, each with the time that the process then has.
    stages: std::vec::IntoIter<(Stage, Duration)>,
    stage: Stage,
    next_at: Option<Instant>,
}

impl Termination {
    /// How long a worker may take to kill what it has started, and to exit.
    const WORKER_EXIT: Duration = Duration::from_secs(2);
    /// The same for the guard of a program, which gives up after 5 s itself.
    const GUARD_EXIT: Duration = Duration::from_secs(7);

    /// A hook that its worker signals and reports. Without a grace period it is
    /// killed at once. `report_time` is how long the worker may take to report
    /// that.
    pub fn of_hook(signal: Signal, grace: Option<Timeout>, report_time: Duration, now: Instant) -> Self {
        let ask = grace.filter(|_| signal != Signal::SIGKILL).map(|grace| (Stage::Signal(signal), grace.get()));
        Self::begin(ask.into_iter().chain([(Stage::Kill, report_time), (Stage::EndParent, Duration::ZERO)]), now)
    }

    /// A worker. One that is starting does not read its input yet, and has
    /// started nothing that would be left behind: it is killed at once.
    pub fn of_worker(is_starting: bool, now: Instant) -> Self {
        let close = (!is_starting).then_some((Stage::CloseInput, Self::WORKER_EXIT));
        Self::begin(close.into_iter().chain([(Stage::Kill, Duration::ZERO)]), now)
    }

    /// The guard of a program. `signal` is for the program; `None` ends it
    /// without a grace period.
    pub fn of_guard(signal: Option<Signal>, grace: Option<Timeout>, now: Instant) -> Self {
        let ask = signal.zip(grace).map(|(signal, grace)| (Stage::Signal(signal), grace.get()));
        let others = [(Stage::CloseInput, Self::GUARD_EXIT), (Stage::Kill, Duration::ZERO)];
        Self::begin(ask.into_iter().chain(others), now)
    }

    fn begin(stages: impl Iterator<Item = (Stage, Duration)>, now: Instant) -> Self {
        let stages = stages.collect::<Vec<_>>().into_iter();
        let mut termination = Self { stages, stage: Stage::Kill, next_at: Some(now) };
        termination.advance(now);
        termination
    }

    /// The stage to carry out now.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When the next stage begins; `None` if this is the last.
    pub fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Begins the next stage; `None` if there is no other.
    pub fn advance(&mut self, now: Instant) -> Option<Stage> {
        let (stage, patience) = self.stages.next()?;
        self.stage = stage;
        self.next_at = (self.stages.len() > 0).then(|| now + patience);
        Some(stage)
    }

    /// Ends the grace period: the stage that follows it, unless it is over.
    pub fn hurry(&mut self, now: Instant) -> Option<Stage> {
        if matches!(self.stage, Stage::Signal(_)) { self.advance(now) } else { None }
    }

    /// Time in which this process was stopped does not count.
    pub fn postpone(&mut self, by: Duration) {
        if let Some(at) = &mut self.next_at {
            *at += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal::{SIGINT, SIGKILL, SIGTERM};
    use super::*;

    /// The stages, each with the second in which it begins.
    fn table(begin: impl FnOnce(Instant) -> Termination) -> Vec<(u64, Stage)> {
        let now = Instant::now();
        let mut termination = begin(now);
        let mut stages = vec![(0, termination.stage())];
        while let Some(at) = termination.next_at() {
            stages.push(((at - now).as_secs(), termination.advance(at).unwrap()));
        }
        assert_eq!(termination.advance(now), None);
        stages
    }

    #[test]
    fn the_stages_of_each_process() {
        use Stage::{CloseInput, EndParent, Kill};
        let (grace, report) = (Some(Timeout::from_secs(3)), Duration::from_secs(10));
        let hook = |signal, grace| table(|now| Termination::of_hook(signal, grace, report, now));
        assert_eq!(hook(SIGTERM, grace), [(0, Stage::Signal(SIGTERM)), (3, Kill), (13, EndParent)]);
        assert_eq!(hook(SIGTERM, None), [(0, Kill), (10, EndParent)]);
        assert_eq!(hook(SIGKILL, grace), [(0, Kill), (10, EndParent)]);
        let worker = |is_starting| table(|now| Termination::of_worker(is_starting, now));
        assert_eq!(worker(false), [(0, CloseInput), (2, Kill)]);
        assert_eq!(worker(true), [(0, Kill)]);
        let guard = |signal, grace| table(|now| Termination::of_guard(signal, grace, now));
        assert_eq!(guard(Some(SIGINT), grace), [(0, Stage::Signal(SIGINT)), (3, CloseInput), (10, Kill)]);
        assert_eq!(guard(Some(SIGINT), None), [(0, CloseInput), (7, Kill)]);
        assert_eq!(guard(None, grace), [(0, CloseInput), (7, Kill)]);
    }

    #[test]
    fn a_grace_period_can_be_ended_and_postponed() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let begin = || Termination::of_guard(Some(SIGINT), Some(Timeout::from_secs(3)), now);
        let mut termination = begin();
        assert_eq!(termination.hurry(later), Some(Stage::CloseInput));
        assert_eq!(termination.next_at(), Some(later + Termination::GUARD_EXIT));
        assert_eq!(termination.hurry(later), None);
        let mut termination = begin();
        termination.postpone(Duration::from_secs(9));
        assert_eq!(termination.next_at(), Some(now + Duration::from_secs(12)));
    }
}
