//! Build environments, made by real installers from wheels in a folder.

mod support;

use std::collections::HashSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_frontend::{Environment, EnvironmentError, IndexOptions, InstallerChoice};
use hookpool_supervisor::CallerProcess;
use nix::unistd::geteuid;

use self::support::{Place, Run, installed, installers, made};

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
        let tool = std::fs::read_to_string(environment.folder().join("bin/alpha-tool")).unwrap();
        assert_eq!(tool.lines().next().unwrap(), format!("#!{}", environment.python().display()));
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

#[tokio::test]
async fn concurrent_requests_share_one_environment() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &[]);
    let run = place.run(InstallerChoice::Pip).await;
    let gets = (0..8).map(|_| run.get(&["alpha"]));
    let environments = futures_util::future::join_all(gets).await;
    assert!(environments.iter().all(|environment| environment.is_ok()));
    assert_eq!(run.events.names(), ["Making", "Made"]);
    drop(environments);
    run.end().await;
}

#[tokio::test]
async fn what_concurrent_lists_resolve_to_is_made_once() {
    let place = Place::new();
    place.wheel("alpha", "1.0", &["beta"]);
    place.wheel("beta", "1.0", &[]);
    let run = place.run(InstallerChoice::Uv).await;
    // Nothing is resolved before there is a distribution that could be shared.
    run.get(&["beta"]).await.unwrap();
    let lists: [&[&str]; 3] = [&["alpha"], &["alpha>=1"], &["alpha", "beta"]];
    let environments = futures_util::future::join_all(lists.map(|list| run.get(list))).await;
    let folders: HashSet<PathBuf> =
        environments.iter().map(|environment| environment.as_ref().unwrap().folder().to_owned()).collect();
    assert_eq!(folders.len(), 1);
    let names = run.events.names();
    let count = |name: &str| names.iter().filter(|each| *each == name).count();
    assert_eq!((count("Making"), count("Made"), count("Matched")), (2, 2, 2), "{names:?}");
    drop(environments);
    run.end().await;
}

#[tokio::test]
async fn the_next_run_uses_what_is_there() {
    for installer in installers() {
        let place = Place::new();
        let older = place.wheel("alpha", "1.0", &[]);
        place.index("alpha", std::slice::from_ref(&older));
        let mut settings = place.settings_with_index(installer);
        let run = Run::start(settings.clone()).await;
        let first = run.get(&["alpha"]).await.unwrap().folder().to_owned();
        run.end().await;
        // The index is not asked again within a day.
        place.index("alpha", &[older, place.wheel("alpha", "1.1", &[])]);
        let run = Run::start(settings.clone()).await;
        let again = run.get(&["alpha"]).await.unwrap();
        assert_eq!((again.folder(), again.was_made()), (first.as_path(), false));
        assert_eq!(run.events.names(), ["Reused"]);
        run.end().await;
        settings.refresh = true;
        let run = Run::start(settings).await;
        assert_eq!(installed(&run.get(&["alpha"]).await.unwrap()), ["alpha==1.1"]);
        assert_eq!(installed(&run.get(&["alpha"]).await.unwrap()), ["alpha==1.1"]);
        assert_eq!(run.events.names(), ["Making", "Made"]);
        run.end().await;
    }
}

#[tokio::test]
async fn an_empty_list_gives_an_empty_environment() {
    let place = Place::new();
    let run = place.run(InstallerChoice::Auto).await;
    let environment = run.get(&[]).await.unwrap();
    assert_eq!(installed(&environment), Vec::<String>::new());
    run.end().await;
}

#[tokio::test]
async fn a_richer_environment_only_where_it_is_needed() {
    let place = Place::new();
    place.wheel("alpha", "1.5", &[]);
    place.wheel("beta", "2.0", &[]);
    let run = place.run(InstallerChoice::Auto).await;
    let alpha = run.get(&["alpha"]).await.unwrap();
    let enrich = async |additional: &[&str]| {
        let additional: Vec<String> = additional.iter().map(|&text| text.to_owned()).collect();
        run.environments.enrich(&alpha, &additional).await
    };
    for satisfied in [&[][..], &["Alpha>=1"], &["alpha ~= 1.4", "beta; python_version < '3'"]] {
        assert_eq!(enrich(satisfied).await.unwrap().folder(), alpha.folder());
    }
    let richer = enrich(&["beta"]).await.unwrap();
    assert_eq!(installed(&richer), ["alpha==1.5", "beta==2.0"]);
    let error = enrich(&["alpha>2"]).await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Installer { .. }), "{error}");
    drop((alpha, richer));
    run.end().await;
}

#[tokio::test]
async fn environments_with_addresses_are_not_shared() {
    for installer in installers() {
        let place = Place::new();
        let wheel = place.wheel("alpha", "1.0", &[]);
        let run = place.run(installer).await;
        let requirement = format!("alpha @ file://{}", wheel.display());
        let environment = run.get(&[&requirement]).await.unwrap();
        assert_eq!(run.get(&[&requirement]).await.unwrap().folder(), environment.folder());
        let named = run.get(&["alpha"]).await.unwrap();
        assert_ne!(named.folder(), environment.folder());
        assert_eq!(made(&place.cache()).len(), 2);
        drop((environment, named));
        run.end().await;
        assert_eq!(made(&place.cache()).len(), 1);
    }
}

#[tokio::test]
async fn installers_have_the_variables_of_their_caller() {
    for installer in installers() {
        let place = Place::new();
        for version in ["1.0", "2.0"] {
            let wheels = Place::new();
            wheels.wheel("alpha", version, &[]);
            let mut settings = place.settings(installer);
            settings.index = IndexOptions::default();
            let mut caller = CallerProcess::of_this_process().unwrap();
            for (name, value) in [("NO_INDEX", "1".into()), ("FIND_LINKS", wheels.wheels().into_os_string())] {
                for installer in ["PIP_", "UV_"] {
                    caller.variables.insert(format!("{installer}{name}").into(), value.clone());
                }
            }
            // What is made for one caller is not for another, although the requirements are the same.
            settings.caller = Some(Arc::new(caller));
            let run = Run::start(settings).await;
            let environment = run.get(&["alpha"]).await.unwrap();
            assert_eq!(installed(&environment), [format!("alpha=={version}")]);
            drop(environment);
            run.end().await;
        }
    }
}

#[tokio::test]
async fn a_damaged_distribution_is_made_anew() {
    type Damage = fn(&Path);
    const NOBODY: u32 = 65534;
    let damages: [(&str, Damage); 5] = [
        ("truncated", |file| File::options().write(true).open(file).unwrap().set_len(1).unwrap()),
        ("edited", |file| std::fs::write(file, "edited").unwrap()),
        ("removed", |file| std::fs::remove_file(file).unwrap()),
        ("unreadable", |file| std::fs::set_permissions(file, Permissions::from_mode(0o000)).unwrap()),
        ("of another user", |file| chown(file, Some(NOBODY), None).unwrap()),
    ];
    // Only root can give a file away.
    let possible = if geteuid().is_root() { damages.len() } else { damages.len() - 1 };
    for (what, damage) in &damages[..possible] {
        let place = Place::new();
        place.wheel_of("alpha", "1.0", &[], &[("alpha/__init__.py", "version = '1.0'\n")]);
        let run = place.run(InstallerChoice::Auto).await;
        let module = |environment: &Environment| {
            let packages = environment.folder().join("lib").read_dir().unwrap().next().unwrap().unwrap().path();
            packages.join("site-packages/alpha/__init__.py").canonicalize().unwrap()
        };
        let first = run.get(&["alpha"]).await.unwrap();
        let (kept, text) = (module(&first), std::fs::read(module(&first)).unwrap());
        drop(first);
        run.end().await;
        damage(&kept);
        let run = place.run(InstallerChoice::Auto).await;
        let second = run.get(&["alpha"]).await.unwrap();
        assert!(second.was_made(), "{what}");
        assert_ne!(module(&second), kept, "{what}");
        assert_eq!(std::fs::read(module(&second)).unwrap(), text, "{what}");
        drop(second);
        run.end().await;
    }
}
