//! Builds the metadata of many sources at once, as a resolver does.
//!
//! ```text
//! cargo run -p hookpool-frontend --example metadata -- CACHE_FOLDER SOURCE...
//! ```

use std::error::Error;
use std::path::PathBuf;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hookpool_frontend::{
    EnvironmentEvent, EnvironmentSettings, Environments, Frontend, FrontendSettings, Goal, JobId, Product, Report,
    Source,
};
use hookpool_supervisor::{HookError, Supervisor};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let cache = arguments.next().ok_or("expected a folder for what is kept, and sources")?;

    let supervisor = Supervisor::builder().cache_folder(&cache).start().await?;
    let environments = Environments::new(supervisor.clone(), EnvironmentSettings::new(&cache), report)?;
    let mut settings = FrontendSettings::default();
    settings.environments = Some(environments);
    let frontend = Frontend::new(supervisor.clone(), settings, |_| {})?;

    let mut open = FuturesUnordered::new();
    for (number, name) in arguments.enumerate() {
        open.push(metadata(&frontend, JobId(number), name));
    }
    while let Some((name, report)) = open.next().await {
        match report.outcome {
            Ok(Product::Metadata(metadata, origin)) => {
                println!("{}: {} {} ({})", name.display(), metadata.name, metadata.version, origin.name());
            }
            Ok(other) => println!("{}: {other:?}", name.display()),
            Err(error) => println!("{}: {error}", name.display()),
        }
    }
    drop(open);
    supervisor.drain().await;
    frontend.close().await;
    Ok(())
}

async fn metadata(frontend: &Frontend, job: JobId, name: PathBuf) -> (PathBuf, Report) {
    let report = match Source::find(&name) {
        Ok(source) => frontend.build(job, &name, &source, &Goal::Metadata).await,
        Err(error) => Report::failed(HookError::from(error)),
    };
    (name, report)
}

fn report(event: &EnvironmentEvent) {
    if let EnvironmentEvent::Made { requirements, after, .. } = event {
        eprintln!("made an environment with {} in {after:?}", requirements.join(", "));
    }
}
