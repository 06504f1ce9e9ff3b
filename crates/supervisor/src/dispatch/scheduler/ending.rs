//! Commands for all workers: suspend, resume, and the shutdown.

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::super::workers::Occupation;
use super::{RequestState, Scheduler};
use crate::error::{ErrorKind, HookError};
use crate::event::{Event, StopReason};
use crate::ids::{RequestId, WorkerId};
use crate::shutdown::Shutdown;
use crate::worker::WorkerCommand;
use crate::worker::message::Acknowledgement;

impl Scheduler {
    /// Stops all hooks; nothing is started until [`Scheduler::resume`].
    pub fn suspend(&mut self, told: &Acknowledgement) {
        self.suspended = true;
        self.observe(Event::Suspended);
        for worker in self.workers.ids() {
            self.tell(worker, WorkerCommand::Suspend(told.clone()));
        }
    }

    pub fn resume(&mut self, now: Instant) {
        self.suspended = false;
        self.observe(Event::Resumed);
        for worker in self.workers.ids() {
            self.tell(worker, WorkerCommand::Resume);
        }
        self.serve_waiting(now);
        self.fill();
    }

    /// Admits no more requests, and ends when all are answered.
    pub fn drain(&mut self) {
        if self.shutdown.advance(Shutdown::Draining) {
            self.observe(Event::Draining);
        }
        self.stop_all_when_drained();
    }

    /// Ends the workers when no requests are left and none will come.
    pub(super) fn stop_all_when_drained(&mut self) {
        if self.shutdown == Shutdown::NotBegun || !self.requests.is_empty() {
            return;
        }
        for worker in self.idle_workers() {
            self.stop(worker, StopReason::Shutdown);
        }
        let useless = |occupation: Occupation| {
            matches!(occupation, Occupation::Lingering | Occupation::Starting { request: None })
        };
        for worker in self.workers.ids_where(|record| useless(record.occupation())) {
            self.workers.occupy(worker, Occupation::Stopping);
            self.tell(worker, WorkerCommand::Terminate);
        }
    }

    /// Ends everything. Hooks get this signal and the grace period.
    pub fn interrupt(&mut self, signal: Signal, now: Instant) {
        if !self.shutdown.advance(Shutdown::Interrupted(signal)) {
            return;
        }
        self.suspended = false;
        self.observe(Event::Interrupted { signal: signal.as_str().to_owned() });
        self.fail_unleased(&format!("the supervisor was ended by {signal}"), now);
        for worker in self.workers.ids() {
            self.tell(worker, WorkerCommand::Interrupt(signal));
        }
        self.stop_all_when_drained();
    }

    /// Ends everything, and kills the hooks.
    pub fn terminate(&mut self, now: Instant) {
        self.shutdown.advance(Shutdown::Terminated);
        self.suspended = false;
        self.fail_unleased("the supervisor was ended", now);
        for worker in self.workers.ids() {
            self.tell(worker, WorkerCommand::Terminate);
        }
    }

    /// Answers every request that is not leased.
    fn fail_unleased(&mut self, message: &str, now: Instant) {
        let unleased = |state: &RequestState| !matches!(state, RequestState::Leased { .. });
        let mut requests: Vec<RequestId> =
            self.requests.iter().filter(|(_, record)| unleased(&record.state)).map(|(id, _)| *id).collect();
        requests.sort_unstable();
        self.trees.drain();
        self.parked.clear();
        self.needs_worker.clear();
        for request in requests {
            let record = &self.requests[&request];
            let path = record.path.clone();
            match &record.state {
                RequestState::Starting { worker, .. } => {
                    let worker = *worker;
                    self.abandon_start(worker);
                    self.leave_tree(&path);
                }
                RequestState::NeedsWorker { .. } => self.leave_tree(&path),
                // The end of a visit releases what it holds. Installers get the
                // signal too, and end by themselves.
                RequestState::Queued
                | RequestState::Visiting
                | RequestState::Preparing { .. }
                | RequestState::Parked { .. } => {}
                RequestState::Leased { .. } => unreachable!("filtered out above"),
            }
            self.fail(request, HookError::new(ErrorKind::Interrupted, message), now);
            self.give_up_unwanted(&path);
        }
    }

    fn idle_workers(&self) -> Vec<WorkerId> {
        self.workers.idle().map(|(worker, _)| worker).collect()
    }
}
