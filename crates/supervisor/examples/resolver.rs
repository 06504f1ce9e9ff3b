//! How a resolver uses a supervisor: it asks many source trees at once for their
//! build requirements, and gives up on slow ones.
//!
//! ```text
//! cargo run --example resolver -- PYTHON TREE...
//! ```
//!
//! `PYTHON` is an interpreter whose environment has the trees' build backends.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hookpool_supervisor::{ErrorKind, Event, Events, Hook, HookRequest, Limits, Response, Supervisor, Timeout};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let python = arguments.next().ok_or("expected an interpreter and source trees")?;

    let limits = Limits { hook_timeout: Some(Timeout::new(Duration::from_secs(120))?), ..Limits::default() };
    let mut builder = Supervisor::builder().limits(limits).interpreter(python);
    let events = builder.subscribe(|event| matches!(event, Event::WorkerReady { .. }));
    let reporter = tokio::spawn(report(events));
    let supervisor = builder.start().await?;

    // Responses come in the order in which hooks end. Dropping a ticket would
    // cancel its request.
    let mut tickets = FuturesUnordered::new();
    for tree in arguments {
        let request = HookRequest::new(tree, Hook::GetRequiresForBuildWheel);
        tickets.push(supervisor.submit(request).await?.into_future());
    }
    while let Some(response) = tickets.next().await {
        println!("{}: {}", response.tree.display(), describe(&response));
    }

    // Answers the remaining requests, ends the workers, and waits for their end.
    supervisor.drain().await;
    reporter.await?;
    Ok(())
}

fn describe(response: &Response) -> String {
    match &response.outcome {
        Ok(requirements) => format!("needs {requirements}"),
        // A backend without this hook has no more requirements (PEP 517).
        Err(error) if error.kind == ErrorKind::UnsupportedHook => "needs []".into(),
        Err(error) => error.to_string(),
    }
}

async fn report(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::WorkerReady { pid, after, .. } = &event.event {
            eprintln!("worker {pid} was ready after {after:?}");
        }
    }
}
