//! What pruning removes, and what it leaves alone.

mod support;

use std::ffi::OsStr;
use std::fs::File;
use std::time::{Duration, SystemTime};

use hookpool_frontend::{InstallerChoice, Pruned, prune};

use self::support::{Place, installed, made};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn environments_in_use_or_recently_used_stay() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    place.wheel("beta", "1.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["beta"]).await.unwrap();
    run.end().await;
    let run = place.run(InstallerChoice::Auto).await;
    let alpha = run.get(&["alpha"]).await.unwrap();
    let pruned = prune(&place.cache(), DAY, None).unwrap();
    assert_eq!((pruned.environments.count, pruned.kept, pruned.in_use), (0, 2, 0));
    let pruned = prune(&place.cache(), Duration::ZERO, None).unwrap();
    assert_eq!((pruned.environments.count, pruned.resolutions.count, pruned.in_use), (1, 1, 1));
    assert_eq!(pruned.distributions.count, 1);
    assert!(pruned.bytes() > 10_000);
    assert_eq!(made(&place.cache()), [alpha.folder().file_name().unwrap().to_str().unwrap()]);
    // A removed environment is made again.
    let beta = run.get(&["beta"]).await.unwrap();
    assert!(beta.was_made());
    drop((alpha, beta));
    run.end().await;
    prune(&place.cache(), Duration::ZERO, None).unwrap();
    assert_eq!(made(&place.cache()), Vec::<String>::new());
    for folder in
        ["made", "contents", "resolutions", "models", "distributions/kept", "distributions/ids", "distributions/pins"]
    {
        assert_eq!(place.cache().join("environments/1").join(folder).read_dir().unwrap().count(), 0, "{folder}");
    }
    let run = place.run(InstallerChoice::Auto).await;
    assert_eq!(installed(&run.get(&["alpha"]).await.unwrap()), ["alpha==1.0"]);
    run.end().await;
}

#[tokio::test]
async fn a_distribution_is_removed_a_while_after_its_last_environment() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["alpha"]).await.unwrap();
    run.end().await;
    let long_ago = SystemTime::now() - 2 * DAY;
    let age = |folder: &str, extension: &str| {
        let entries = place.cache().join("environments/1").join(folder).read_dir().unwrap().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.extension() == Some(OsStr::new(extension))) {
            File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
    };
    let counts = || {
        let pruned = prune(&place.cache(), DAY, None).unwrap();
        (pruned.environments.count, pruned.distributions.count)
    };
    age("distributions/kept", "json");
    assert_eq!(counts(), (0, 0), "an environment has it");
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["alpha"]).await.unwrap();
    run.end().await;
    age("made", "lock");
    assert_eq!(counts(), (1, 0), "it was just used");
    age("distributions/kept", "json");
    assert_eq!(counts(), (0, 1));
}

#[tokio::test]
async fn a_resolution_whose_environment_is_gone_leads_to_one_with_the_same_content() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["alpha"]).await.unwrap();
    let first = run.get(&["alpha==1.0"]).await.unwrap();
    // The environment is discarded, and another one made for one of the two lists.
    std::fs::write(first.folder().join("bin/extra"), "").unwrap();
    first.check_seal().unwrap();
    let second = run.get(&["alpha"]).await.unwrap();
    drop((first, second));
    run.end().await;
    prune(&place.cache(), DAY, None).unwrap();
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["alpha==1.0"]).await.unwrap();
    assert_eq!(run.events.names(), ["Reused"]);
    run.end().await;
}

#[test]
fn a_missing_folder_is_not_made() {
    let place = Place::new();
    assert_eq!(prune(&place.cache(), Duration::ZERO, None).unwrap(), Pruned::default());
    assert!(!place.cache().exists());
}
