//! Deciding whether hooks get a jobserver, and whose.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::fifo::Fifo;
use super::make::{Unsuitable, check_make};
use super::makeflags::{MakeFlags, OuterJobserver};

/// Whether the user wants a jobserver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A jobserver if possible.
    #[default]
    Auto,
    /// A jobserver, or else an error.
    On,
    /// No jobserver of ours.
    Off,
}

/// Which jobserver hooks get, by [`Decision::make`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision(pub(super) Decided);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// A jobserver of ours.
    Ours { flags: MakeFlags },
    /// The jobserver that this program was started with.
    Outer { fifo: PathBuf },
    /// No jobserver.
    None {
        reason: Option<Unsuitable>,
        /// The value of `MAKEFLAGS` for hooks, if they must not inherit it.
        makeflags: Option<String>,
    },
}

impl Decision {
    /// Decides by the variable `MAKEFLAGS` and by the version of the make on `PATH`.
    /// Running `make --version` takes a millisecond or two, and at most two seconds.
    ///
    /// To be called before a supervisor starts in this process: a supervisor that is a
    /// child subreaper kills children that it does not know. Dropping the future kills
    /// make.
    ///
    /// # Errors
    /// [`Unsuitable`], with [`Mode::On`] only.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn make(mode: Mode) -> Result<Self, Unsuitable> {
        let makeflags = std::env::var_os("MAKEFLAGS");
        decide(mode, makeflags.as_deref(), Fifo::is_usable, check_make).await.map(Self)
    }

    /// Why hooks get no jobserver, if the user has not turned it off.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Unsuitable> {
        match &self.0 {
            Decided::None { reason, .. } => reason.as_ref(),
            Decided::Ours { .. } | Decided::Outer { .. } => None,
        }
    }

    /// The fifo of the outer jobserver, if hooks get that one.
    #[must_use]
    pub fn outer(&self) -> Option<&Path> {
        match &self.0 {
            Decided::Outer { fifo } => Some(fifo),
            Decided::Ours { .. } | Decided::None { .. } => None,
        }
    }
}

async fn decide(
    mode: Mode,
    makeflags: Option<&OsStr>,
    is_usable: impl Fn(&Path) -> bool,
    check_make: impl AsyncFnOnce() -> Result<(), Unsuitable>,
) -> Result<Decided, Unsuitable> {
    let text = makeflags.map_or(Some(""), OsStr::to_str);
    let flags = MakeFlags::parse(text.unwrap_or_default());
    // An address of a jobserver that does not exist is removed: clients would warn
    // about it, or read from whatever has that descriptor.
    let stale = || flags.outer().is_some().then(|| flags.without_jobserver());
    match flags.outer() {
        Some(OuterJobserver::Fifo(fifo)) if is_usable(fifo) => {
            // With `off` too, which is about a jobserver of ours.
            return Ok(Decided::Outer { fifo: fifo.clone() });
        }
        _ if mode == Mode::Off => return Ok(Decided::None { reason: None, makeflags: stale() }),
        _ => {}
    }
    let suitable = if text.is_some() { check_make().await } else { Err(Unsuitable::MakeFlags) };
    match suitable {
        Ok(()) => Ok(Decided::Ours { flags }),
        Err(reason) if mode == Mode::On => Err(reason),
        Err(reason) => Ok(Decided::None { reason: Some(reason), makeflags: stale() }),
    }
}

/// The variables with the address of the jobserver.
///
/// cargo prefers `CARGO_MAKEFLAGS` and `MFLAGS` to `MAKEFLAGS`, so they need the same
/// value if they are set.
pub(super) fn variables(makeflags: String, is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, OsString)> {
    let also = ["CARGO_MAKEFLAGS", "MFLAGS"].into_iter().filter(|name| is_set(name));
    std::iter::once("MAKEFLAGS").chain(also).map(|name| (name, makeflags.clone().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// The output of a future that does not wait.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().unwrap()
    }

    fn old() -> Unsuitable {
        Unsuitable::OldMake { make: "/usr/bin/make".into(), version: "4.3".into() }
    }

    fn with_makeflags(mode: Mode, makeflags: &str, make: Result<(), Unsuitable>) -> Result<Decided, Unsuitable> {
        now(decide(mode, Some(OsStr::new(makeflags)), |path| path == Path::new("/outer"), async || make))
    }

    #[test]
    fn an_old_make_turns_it_off_or_is_an_error() {
        let off = Decided::None { reason: Some(old()), makeflags: None };
        assert_eq!(with_makeflags(Mode::Auto, "", Err(old())), Ok(off));
        assert_eq!(with_makeflags(Mode::On, "", Err(old())), Err(old()));
        for mode in [Mode::Auto, Mode::On] {
            assert!(matches!(with_makeflags(mode, "", Ok(())), Ok(Decided::Ours { .. })));
        }
    }

    #[test]
    fn make_is_not_run_when_it_is_off() {
        let decision = now(decide(Mode::Off, None, |_| true, async || unreachable!("make is not asked")));
        assert_eq!(decision, Ok(Decided::None { reason: None, makeflags: None }));
    }

    #[test]
    fn an_outer_fifo_is_left_as_it_is_and_one_that_is_gone_is_replaced() {
        for mode in [Mode::Auto, Mode::On, Mode::Off] {
            let outer = with_makeflags(mode, " -j8 --jobserver-auth=fifo:/outer", Err(old()));
            assert_eq!(outer, Ok(Decided::Outer { fifo: "/outer".into() }));
        }
        let gone = "k -j8 --jobserver-auth=fifo:/gone";
        assert!(matches!(with_makeflags(Mode::Auto, gone, Ok(())), Ok(Decided::Ours { .. })));
        let off = Decided::None { reason: None, makeflags: Some("k".into()) };
        assert_eq!(with_makeflags(Mode::Off, gone, Ok(())), Ok(off));
    }

    #[test]
    fn descriptors_are_removed() {
        let descriptors = "k -j8 --jobserver-auth=3,4";
        let off = Decided::None { reason: Some(old()), makeflags: Some("k".into()) };
        assert_eq!(with_makeflags(Mode::Auto, descriptors, Err(old())), Ok(off));
        let Ok(Decided::Ours { flags }) = with_makeflags(Mode::Auto, descriptors, Ok(())) else { panic!("not ours") };
        assert_eq!(flags.with_jobserver(2, Path::new("/f")), "k -j2 --jobserver-auth=fifo:/f");
    }

    #[test]
    fn flags_that_are_not_utf_8_are_left_alone() {
        use std::os::unix::ffi::OsStrExt;
        let binary = Some(OsStr::from_bytes(b"k \xff"));
        let ask = |mode| now(decide(mode, binary, |_| true, async || Ok(())));
        assert_eq!(ask(Mode::Auto), Ok(Decided::None { reason: Some(Unsuitable::MakeFlags), makeflags: None }));
        assert_eq!(ask(Mode::On), Err(Unsuitable::MakeFlags));
    }

    #[test]
    fn the_variables_that_cargo_prefers_have_the_same_value() {
        let names = |is_set: fn(&str) -> bool| {
            variables("k".into(), is_set).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(|_| false), ["MAKEFLAGS"]);
        assert_eq!(names(|name| name == "CARGO_MAKEFLAGS"), ["MAKEFLAGS", "CARGO_MAKEFLAGS"]);
    }
}
