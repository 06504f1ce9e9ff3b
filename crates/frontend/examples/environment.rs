//! Makes a build environment: `environment CACHE auto|uv|pip REQUIREMENT...`.

use hookpool_frontend::{EnvironmentSettings, Environments, InstallerChoice};
use hookpool_supervisor::Supervisor;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let cache = arguments.next().ok_or("expected a cache folder")?;
    let installer = match arguments.next().as_deref() {
        Some("uv") => InstallerChoice::Uv,
        Some("pip") => InstallerChoice::Pip,
        _ => InstallerChoice::Auto,
    };
    let requires: Vec<String> = arguments.collect();
    let supervisor = Supervisor::builder().cache_folder(&cache).start().await?;
    let mut settings = EnvironmentSettings::new(&cache);
    settings.installer = installer;
    let environments = Environments::new(supervisor.clone(), settings, |event| eprintln!("{event:?}"))?;
    match environments.get(None, &requires).await {
        Ok(environment) => {
            println!("{} {}", environment.content_id(), environment.python().display());
            let started = std::time::Instant::now();
            println!("seal: {:?} in {:?}", environment.check_seal()?, started.elapsed());
        }
        Err(error) => eprintln!("error: {error}\nhint: {:?}", error.hint()),
    }
    supervisor.drain().await;
    environments.close().await;
    Ok(())
}
