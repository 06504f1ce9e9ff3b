//! The task of a worker: its start, its event loop, its last report.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event_loop::EventLoop;
use super::message::{Ending, WorkerCommand, WorkerEvent, WorkerReport};
use super::start::{LaunchSettings, WorkerPlan, start};
use crate::blocking::BlockingPool;
use crate::ids::WorkerId;
use crate::interpreter::Interpreters;
use crate::limits::Limits;
use crate::process::Spawner;
use crate::template::Templates;

/// What the tasks of all workers need.
#[derive(Clone)]
pub(crate) struct WorkerContext {
    pub settings: Arc<LaunchSettings>,
    /// Those in force. A hook keeps those that it began with.
    pub limits: watch::Receiver<Limits>,
    pub pool: BlockingPool,
    pub spawner: Spawner,
    pub interpreters: Interpreters,
    pub templates: Arc<Templates>,
    pub reports: async_channel::Sender<WorkerReport>,
}

/// Runs a worker. Its last report is always [`WorkerEvent::Gone`].
pub(crate) async fn run(
    context: WorkerContext,
    id: WorkerId,
    plan: WorkerPlan,
    commands: mpsc::UnboundedReceiver<WorkerCommand>,
) {
    let reporter = Reporter { worker: id, reports: context.reports.clone() };
    let life = live(context, reporter.clone(), id, plan, commands);
    // Without its last report the supervisor would never end. The process is
    // killed when its handle is dropped.
    if AssertUnwindSafe(life).catch_unwind().await.is_err() {
        let ending = Ending::Crashed("the task of the worker panicked, which is a defect of hookpool".into());
        reporter.report(WorkerEvent::Gone { pid: None, exit: None, ending }).await;
    }
}

async fn live(
    context: WorkerContext,
    reporter: Reporter,
    id: WorkerId,
    plan: WorkerPlan,
    mut commands: mpsc::UnboundedReceiver<WorkerCommand>,
) {
    let started_at = Instant::now();
    let mut suspended = false;
    let started = tokio::select! {
        started = start(&context, &plan) => started,
        // This drops the start, which kills its process.
        () = told_to_end(&mut commands, &mut suspended) => Err(Ending::Planned),
    };
    match started {
        Ok(worker) => {
            let mut event_loop = EventLoop::new(context, reporter, id, worker, plan.tree.path.clone(), started_at);
            if suspended {
                event_loop.begin_suspended();
            }
            event_loop.run(commands).await;
        }
        Err(ending) => reporter.report(WorkerEvent::Gone { pid: None, exit: None, ending }).await,
    }
}

/// Waits for a command, during the start, by which the worker is not needed.
async fn told_to_end(commands: &mut mpsc::UnboundedReceiver<WorkerCommand>, suspended: &mut bool) {
    while let Some(command) = commands.recv().await {
        match command {
            WorkerCommand::Interrupt(_) | WorkerCommand::Stop | WorkerCommand::Terminate => return,
            WorkerCommand::Suspend(_) => *suspended = true,
            WorkerCommand::Resume => *suspended = false,
            // These come after READY only.
            WorkerCommand::Lease(_) | WorkerCommand::Cancel { .. } => {}
        }
    }
}

/// Sends reports to the dispatcher, which never waits for a worker.
#[derive(Clone)]
pub(super) struct Reporter {
    pub worker: WorkerId,
    reports: async_channel::Sender<WorkerReport>,
}

impl Reporter {
    pub async fn report(&self, event: WorkerEvent) {
        // An error means that the dispatcher has ended.
        let _ = self.reports.send(WorkerReport { worker: self.worker, event }).await;
    }
}
