//! Build environments, by real installers, from wheels in a folder.

mod support;

use self::support::{Place, installed, installers, made};

#[tokio::test]
async fn an_environment_has_what_was_asked_for_and_nothing_else() {
    for installer in installers() {
        let place = Place::new();
        place.wheel("alpha", "1.0", &["beta>=2"]);
        place.wheel("beta", "2.1", &[]);
        let run = place.run(installer).await;
        let environment = run.get(&["alpha", "nothing; python_version < '3'"]).await.unwrap();
        assert_eq!(installed(&environment), ["alpha==1.0", "beta==2.1"]);
        assert!(environment.was_made() && environment.python().is_file());
        assert!(environment.folder().join("bin/alpha-tool").is_file());
        let bytecode = walkdir::WalkDir::new(environment.folder().join("lib"));
        let compiled =
            bytecode.into_iter().flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "pyc"));
        assert_eq!(compiled.count(), 2);
        assert_eq!(run.events.names(), ["Making", "Made"]);
        run.end().await;
    }
}

#[tokio::test]
async fn different_lists_share_what_they_resolve_to() {
    let mut ids = Vec::new();
    let place = Place::new();
    place.wheel("alpha", "1.0", &["beta>=2"]);
    place.wheel("beta", "2.1", &[]);
    for installer in installers() {
        let run = place.run(installer).await;
        let first = run.get(&["alpha"]).await.unwrap();
        let second = run.get(&["beta>=2", "Alpha"]).await.unwrap();
        assert_eq!(first.folder(), second.folder());
        ids.push(first.content_id().to_owned());
        drop((first, second));
        run.end().await;
        assert_eq!(made(&place.cache()).len(), 1, "{installer:?}");
    }
    // Both installers give the same environment.
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
