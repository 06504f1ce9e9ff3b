//! Build environments when something goes wrong.

mod support;

use hookpool_frontend::{EnvironmentError, EnvironmentEvent, InstallerChoice};
use hookpool_supervisor::{ErrorKind, HookError};

use self::support::{Place, Run, installed, installers, made, make_resolutions_old, program};

#[tokio::test]
async fn the_installers_own_words_are_told() {
    for installer in installers() {
        let place = Place::new();
        place.wheel("alpha", "1.0", &[]);
        let run = place.run(installer).await;
        let error = run.get(&["alpha", "missing-thing>=3"]).await.unwrap_err();
        let told = error.to_string();
        assert!(told.contains("could not install `alpha`, `missing-thing>=3`: "), "{told}");
        assert!(told.matches("missing-thing").count() > 1, "{told}");
        assert_eq!(HookError::from(error).kind, ErrorKind::EnvironmentFailed);
        // A failure is not remembered: the next call tries again.
        place.wheel("missing_thing", "3.0", &[]);
        run.get(&["alpha", "missing-thing>=3"]).await.unwrap();
        assert_eq!(made(&place.cache()).len(), 1);
        run.end().await;
    }
}

#[tokio::test]
async fn no_requirement_is_an_option() {
    let place = Place::new();
    let run = place.run(InstallerChoice::Pip).await;
    for text in ["--help", "-r/etc/passwd", "", "./folder", "https://user:secret@host/a.whl", "alpha>>1"] {
        let error = run.get(&[text]).await.unwrap_err();
        assert!(matches!(error, EnvironmentError::InvalidRequirement { .. }), "{error}");
        assert!(!error.to_string().contains("secret") && error.hint().is_some());
        assert_eq!(error.to_hook_error().kind, ErrorKind::InvalidPyproject);
    }
    assert_eq!(run.events.names(), Vec::<String>::new());
    run.end().await;
}

#[tokio::test]
async fn a_broken_seal_has_the_environment_made_anew() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    let environment = run.get(&["alpha"]).await.unwrap();
    assert!(environment.check_seal().unwrap().is_empty());
    let module = walkdir::WalkDir::new(environment.folder()).into_iter().flatten();
    let module = module.map(|entry| entry.into_path()).find(|path| path.ends_with("alpha.py")).unwrap();
    std::fs::write(&module, "version = 'worse'\n").unwrap();
    assert_eq!(environment.check_seal().unwrap(), [module]);
    let next = run.get(&["alpha"]).await.unwrap();
    assert_ne!(next.folder(), environment.folder());
    assert_eq!(next.content_id(), environment.content_id());
    assert_eq!(run.events.names(), ["Making", "Made", "Discarded", "Making", "Made"]);
    drop((environment, next));
    run.end().await;
    assert_eq!(made(&place.cache()).len(), 1);
}

#[tokio::test]
async fn the_seal_is_looked_at_when_an_environment_is_taken() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    let first = run.get(&["alpha"]).await.unwrap().folder().to_owned();
    run.end().await;
    std::fs::write(first.join("bin/extra"), "").unwrap();
    let run = place.run(InstallerChoice::Auto).await;
    assert_ne!(run.get(&["alpha"]).await.unwrap().folder(), first);
    let reason = run.events.all().into_iter().find_map(|event| match event {
        EnvironmentEvent::Discarded { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason.unwrap(), "its seal is broken: bin/extra changed since it was made");
    run.end().await;
}

#[tokio::test]
async fn an_old_resolution_counts_where_nobody_can_be_asked() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["alpha"]).await.unwrap();
    run.end().await;
    make_resolutions_old(&place.cache());
    let run = place.run(InstallerChoice::Auto).await;
    run.get(&["alpha"]).await.unwrap();
    assert_eq!(run.events.names(), ["Reused"]);
    run.end().await;
}

#[tokio::test]
async fn an_index_without_an_answer_leaves_the_old_one() {
    for installer in installers() {
        let place = Place::new();
        let wheel = place.wheel("alpha", "1.0", &[]);
        place.index("alpha", &[wheel]);
        let settings = place.settings_with_index(installer);
        let run = Run::start(settings.clone()).await;
        assert_eq!(installed(&run.get(&["alpha"]).await.unwrap()), ["alpha==1.0"]);
        run.end().await;
        place.index("alpha", &[]);
        make_resolutions_old(&place.cache());
        let run = Run::start(settings).await;
        run.get(&["alpha"]).await.unwrap();
        assert_eq!(run.events.names(), ["Making", "StaleResolutionUsed"]);
        assert_eq!(made(&place.cache()).len(), 1);
        run.end().await;
    }
}

#[tokio::test]
async fn credentials_reach_neither_messages_nor_the_cache() {
    const ADDRESS: &str = "https://user:topsecret@localhost:1/simple";
    for installer in installers() {
        let place = Place::new();
        place.wheel("alpha", "1.0", &[]);
        let mut settings = place.settings(installer);
        settings.index.extra_index_urls = vec![ADDRESS.into()];
        assert!(!format!("{settings:?}").contains("topsecret"));
        let run = Run::start(settings).await;
        run.get(&["alpha"]).await.unwrap();
        run.end().await;
        let mut program =
            program(&place, installer, &["beta", &format!("gamma @ {ADDRESS}/gamma-1.0-py3-none-any.whl")]);
        program.env("PIP_EXTRA_INDEX_URL", ADDRESS).env("UV_EXTRA_INDEX_URL", ADDRESS).env("PIP_RETRIES", "0");
        program
            .env_remove("PIP_NO_INDEX")
            .env_remove("UV_NO_INDEX")
            .env_remove("UV_OFFLINE")
            .env("UV_HTTP_RETRIES", "0");
        #[expect(clippy::disallowed_methods, reason = "there is no supervisor here")]
        let told = program.spawn().unwrap().wait_with_output().unwrap();
        let told = String::from_utf8(told.stderr).unwrap();
        assert!(told.contains("could not install `beta`, `gamma @ https://***@localhost:1/simple/gamma"), "{told}");
        assert!(!told.contains("topsecret"), "{told}");
        for file in walkdir::WalkDir::new(place.cache()).into_iter().flatten().filter(|entry| entry.path().is_file()) {
            let content = std::fs::read(file.path()).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains("topsecret"), "{}", file.path().display());
        }
    }
}

#[tokio::test]
async fn constraints_apply_and_belong_to_the_key() {
    for installer in installers() {
        let place = Place::new();
        place.wheel("alpha", "1.0", &[]);
        place.wheel("alpha", "2.0", &[]);
        let run = place.run(installer).await;
        assert_eq!(installed(&run.get(&["alpha"]).await.unwrap()), ["alpha==2.0"]);
        run.end().await;
        let constraints = place.folder.path().join("constraints.txt");
        std::fs::write(&constraints, "alpha<2\n").unwrap();
        let mut settings = place.settings(installer);
        settings.build_constraints = vec![constraints.clone()];
        let run = Run::start(settings.clone()).await;
        assert_eq!(installed(&run.get(&["alpha"]).await.unwrap()), ["alpha==1.0"]);
        run.end().await;
        std::fs::remove_file(&constraints).unwrap();
        let run = Run::start(settings).await;
        let error = run.get(&["alpha"]).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read the constraints in {}", constraints.display())), "{error}");
        run.end().await;
    }
}
