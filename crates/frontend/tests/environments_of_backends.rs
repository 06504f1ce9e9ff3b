//! Environments with real build backends, from the index that pip and uv use.

mod support;

use std::collections::BTreeSet;

use hookpool_frontend::EnvironmentSettings;

use self::support::{Place, Run, installers};

#[tokio::test]
async fn both_installers_give_the_same() {
    for requires in [&["setuptools==80.9.0", "wheel==0.45.1"][..], &["hatchling==1.27.0", "packaging==25.0"]] {
        let mut ids = BTreeSet::new();
        for installer in installers() {
            let place = Place::new();
            let mut settings = EnvironmentSettings::new(place.cache());
            settings.installer = installer;
            let run = Run::start(settings).await;
            let environment = run.get(requires).await.unwrap();
            assert!(environment.check_seal().unwrap().is_empty());
            ids.insert(environment.content_id().to_owned());
            drop(environment);
            run.end().await;
        }
        assert_eq!(ids.len(), 1, "{requires:?}");
    }
}
