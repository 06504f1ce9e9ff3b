//! Whether hooks get a jobserver, and whose.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::fifo::Fifo;
use super::make::{Unsuitable, check_make};
use super::makeflags::{MakeFlags, OuterJobserver};

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A jobserver, unless something speaks against it.
    #[default]
    Auto,
    /// A jobserver, or an error that says why there is none.
    On,
    /// None.
    Off,
}

/// What the hooks get: see [`Decision::make`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision(pub(super) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of ours.
    Ours { flags: MakeFlags },
    /// That of whoever started this program.
    Outer { fifo: PathBuf },
    /// None.
    None {
        reason: Option<Unsuitable>,
        /// What `MAKEFLAGS` has to be instead.
        makeflags: Option<String>,
    },
}

impl Decision {
    /// Decides, by `MAKEFLAGS` in this process's environment and by the make
    /// on its `PATH`, which is asked for its version: that takes a millisecond
    /// or two, and two seconds where it hangs.
    ///
    /// To be called before a supervisor starts in this process: one that is a
    /// child subreaper kills children that it does not know. When this is
    /// dropped, make is killed.
    ///
    /// # Errors
    /// [`Unsuitable`], with [`Choice::On`] only.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn make(choice: Choice) -> Result<Self, Unsuitable> {
        let makeflags = std::env::var_os("MAKEFLAGS");
        decide(choice, makeflags.as_deref(), Fifo::is_usable, check_make).await.map(Self)
    }

    /// Why hooks get no jobserver, where that was not what the user wanted.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Unsuitable> {
        match &self.0 {
            Kind::None { reason, .. } => reason.as_ref(),
            Kind::Ours { .. } | Kind::Outer { .. } => None,
        }
    }

    /// The fifo of the jobserver that was there before this process, if hooks
    /// get that one.
    #[must_use]
    pub fn outer(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Outer { fifo } => Some(fifo),
            Kind::Ours { .. } | Kind::None { .. } => None,
        }
    }
}

async fn decide(
    choice: Choice,
    makeflags: Option<&OsStr>,
    is_usable: impl Fn(&Path) -> bool,
    check_make: impl AsyncFnOnce() -> Result<(), Unsuitable>,
) -> Result<Kind, Unsuitable> {
    let text = makeflags.map_or(Some(""), OsStr::to_str);
    let flags = MakeFlags::parse(text.unwrap_or_default());
    // Without one of ours, an address that leads nowhere is removed: hooks'
    // clients would warn of it, or read from whatever has its descriptor.
    let stale = || flags.outer().is_some().then(|| flags.without_jobserver());
    match flags.outer() {
        Some(OuterJobserver::Fifo(fifo)) if is_usable(fifo) => {
            // Also with `off`, which is about ours.
            return Ok(Kind::Outer { fifo: fifo.clone() });
        }
        _ if choice == Choice::Off => return Ok(Kind::None { reason: None, makeflags: stale() }),
        _ => {}
    }
    let suitable = if text.is_some() { check_make().await } else { Err(Unsuitable::MakeFlags) };
    match suitable {
        Ok(()) => Ok(Kind::Ours { flags }),
        Err(reason) if choice == Choice::On => Err(reason),
        Err(reason) => Ok(Kind::None { reason: Some(reason), makeflags: stale() }),
    }
}

/// The variables that lead hooks' programs to the jobserver of `flags`.
///
/// cargo looks at these before it looks at `MAKEFLAGS` or instead of it, so
/// where they are set they have to say the same.
pub(super) fn variables(makeflags: String, is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, OsString)> {
    let also = ["CARGO_MAKEFLAGS", "MFLAGS"].into_iter().filter(|name| is_set(name));
    std::iter::once("MAKEFLAGS").chain(also).map(|name| (name, makeflags.clone().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobserver::make::MakeVersion;
    use futures_util::FutureExt;

    /// Of what waits for nothing.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().unwrap()
    }

    fn old() -> Unsuitable {
        Unsuitable::OldMake { make: "/usr/bin/make".into(), version: MakeVersion(4, 3) }
    }

    fn with_makeflags(choice: Choice, makeflags: &str, make: Result<(), Unsuitable>) -> Result<Kind, Unsuitable> {
        now(decide(choice, Some(OsStr::new(makeflags)), |path| path == Path::new("/outer"), async || make))
    }

    #[test]
    fn an_old_make_turns_it_off_or_is_an_error() {
        let off = Kind::None { reason: Some(old()), makeflags: None };
        assert_eq!(with_makeflags(Choice::Auto, "", Err(old())), Ok(off));
        assert_eq!(with_makeflags(Choice::On, "", Err(old())), Err(old()));
        for choice in [Choice::Auto, Choice::On] {
            assert!(matches!(with_makeflags(choice, "", Ok(())), Ok(Kind::Ours { .. })));
        }
    }

    #[test]
    fn nobody_is_asked_when_it_is_off() {
        let decision = now(decide(Choice::Off, None, |_| true, async || unreachable!("make is not asked")));
        assert_eq!(decision, Ok(Kind::None { reason: None, makeflags: None }));
    }

    #[test]
    fn an_outer_fifo_is_left_as_it_is_and_one_that_is_gone_is_replaced() {
        for choice in [Choice::Auto, Choice::On, Choice::Off] {
            let outer = with_makeflags(choice, " -j8 --jobserver-auth=fifo:/outer", Err(old()));
            assert_eq!(outer, Ok(Kind::Outer { fifo: "/outer".into() }));
        }
        let gone = "k -j8 --jobserver-auth=fifo:/gone";
        assert!(matches!(with_makeflags(Choice::Auto, gone, Ok(())), Ok(Kind::Ours { .. })));
        let off = Kind::None { reason: None, makeflags: Some("k".into()) };
        assert_eq!(with_makeflags(Choice::Off, gone, Ok(())), Ok(off));
    }

    #[test]
    fn descriptors_are_removed() {
        let descriptors = "k -j8 --jobserver-auth=3,4";
        let off = Kind::None { reason: Some(old()), makeflags: Some("k".into()) };
        assert_eq!(with_makeflags(Choice::Auto, descriptors, Err(old())), Ok(off));
        let Ok(Kind::Ours { flags }) = with_makeflags(Choice::Auto, descriptors, Ok(())) else { panic!("not ours") };
        assert_eq!(flags.with_jobserver(2, Path::new("/f")), "k -j2 --jobserver-auth=fifo:/f");
    }

    #[test]
    fn flags_that_are_no_text_are_not_touched() {
        use std::os::unix::ffi::OsStrExt;
        let binary = Some(OsStr::from_bytes(b"k \xff"));
        let ask = |choice| now(decide(choice, binary, |_| true, async || Ok(())));
        assert_eq!(ask(Choice::Auto), Ok(Kind::None { reason: Some(Unsuitable::MakeFlags), makeflags: None }));
        assert_eq!(ask(Choice::On), Err(Unsuitable::MakeFlags));
    }

    #[test]
    fn what_cargo_would_look_at_first_says_the_same() {
        let names = |is_set: fn(&str) -> bool| {
            variables("k".into(), is_set).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(|_| false), ["MAKEFLAGS"]);
        assert_eq!(names(|name| name == "CARGO_MAKEFLAGS"), ["MAKEFLAGS", "CARGO_MAKEFLAGS"]);
    }
}
