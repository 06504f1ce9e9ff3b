//! `MAKEFLAGS`: the options that make passes on to its children, among them the address
//! of the jobserver (GNU make's manual, "POSIX Jobserver").

use std::path::{Path, PathBuf};

/// The short options with an argument, which may follow in the same word.
const WITH_ARGUMENT: &str = "CEfIloOW";

/// The jobserver that `MAKEFLAGS` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OuterJobserver {
    /// Every process that can open the path can use it.
    Fifo(PathBuf),
    /// Two descriptors (`3,4`), which hooks do not inherit; or `-2,-2`, with which make
    /// tells a child that it gets none.
    Descriptors,
}

/// A parsed value of `MAKEFLAGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MakeFlags {
    /// Without `-j` and the jobserver's address.
    flags: Vec<String>,
    /// `--` and the definitions of variables after it.
    definitions: Vec<String>,
    outer: Option<OuterJobserver>,
}

impl MakeFlags {
    pub fn parse(text: &str) -> Self {
        let mut words = words(text);
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let definitions = words.split_off(end);
        let mut parsed = Self { definitions, ..Self::default() };
        let mut words = words.into_iter().enumerate().peekable();
        while let Some((place, word)) = words.next() {
            match Flag::read(&word, place == 0) {
                Flag::Jobserver(outer) => parsed.outer = Some(outer),
                Flag::Jobs { rest, is_complete } => {
                    if !is_complete && words.peek().is_some_and(|(_, next)| is_number(next)) {
                        words.next();
                    }
                    parsed.flags.extend(rest);
                }
                Flag::Other => parsed.flags.push(word),
            }
        }
        parsed
    }

    /// The jobserver whose address it contains.
    pub fn outer(&self) -> Option<&OuterJobserver> {
        self.outer.as_ref()
    }

    /// The flags with this jobserver, as make would write them.
    pub fn with_jobserver(&self, jobs: usize, fifo: &Path) -> String {
        self.write(&[format!("-j{jobs}"), format!("--jobserver-auth=fifo:{}", fifo.display())])
    }

    /// The flags without a jobserver and its `-j`.
    pub fn without_jobserver(&self) -> String {
        self.write(&[])
    }

    fn write(&self, more: &[String]) -> String {
        let words: Vec<&str> = self.flags.iter().chain(more).chain(&self.definitions).map(String::as_str).collect();
        let mut text = words.join(" ");
        // For make, and for makefiles that read it, the text before the first blank is
        // short options without a dash.
        if text.starts_with('-') {
            text.insert(0, ' ');
        }
        text
    }
}

/// The meaning of a word.
enum Flag {
    Jobserver(OuterJobserver),
    /// `-j`, alone or after other letters, the rest. It is not complete if the next word
    /// may be its number.
    Jobs {
        rest: Option<String>,
        is_complete: bool,
    },
    Other,
}

impl Flag {
    fn read(word: &str, is_first: bool) -> Self {
        if let Some(address) = ["--jobserver-auth=", "--jobserver-fds="].iter().find_map(|name| word.strip_prefix(name))
        {
            return Self::Jobserver(match address.strip_prefix("fifo:") {
                Some(path) => OuterJobserver::Fifo(path.into()),
                None => OuterJobserver::Descriptors,
            });
        }
        if let Some(name) = word.strip_prefix("--") {
            return match name.strip_prefix("jobs") {
                Some("") => Self::Jobs { rest: None, is_complete: false },
                Some(value) if value.starts_with('=') => Self::Jobs { rest: None, is_complete: true },
                _ => Self::Other,
            };
        }
        match word.strip_prefix('-') {
            Some(letters) => Self::short("-", letters),
            None if is_first && !word.contains('=') => Self::short("", word),
            None => Self::Other,
        }
    }

    /// Short options in one word.
    fn short(dash: &str, letters: &str) -> Self {
        let Some(place) = letters.find(|letter| letter == 'j' || WITH_ARGUMENT.contains(letter)) else {
            return Self::Other;
        };
        let (before, from) = letters.split_at(place);
        let Some(number) = from.strip_prefix('j') else { return Self::Other };
        let rest = (!before.is_empty()).then(|| format!("{dash}{before}"));
        Self::Jobs { rest, is_complete: !number.is_empty() }
    }
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits at blanks, except after a backslash.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            (blank, _) if blank.is_ascii_whitespace() => words.push(String::new()),
            (other, Some(word)) => {
                word.push(other);
                if other == '\\' {
                    word.extend(characters.next());
                }
            }
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ours(text: &str) -> String {
        MakeFlags::parse(text).with_jobserver(4, Path::new("/t/f"))
    }

    #[test]
    fn the_first_word_is_left_to_short_options() {
        assert_eq!(with_ours(""), " -j4 --jobserver-auth=fifo:/t/f");
        assert_eq!(with_ours("k"), "k -j4 --jobserver-auth=fifo:/t/f");
        assert_eq!(with_ours("-k"), " -k -j4 --jobserver-auth=fifo:/t/f");
        assert_eq!(with_ours(" -k"), " -k -j4 --jobserver-auth=fifo:/t/f");
    }

    #[test]
    fn other_flags_are_kept() {
        assert_eq!(
            with_ours(r"ks --no-print-directory -l 2.5 -Otarget -- CC=gcc\ -m32 D=j8"),
            r"ks --no-print-directory -l 2.5 -Otarget -j4 --jobserver-auth=fifo:/t/f -- CC=gcc\ -m32 D=j8"
        );
        assert_eq!(with_ours("-fjoin -Ij8"), " -fjoin -Ij8 -j4 --jobserver-auth=fifo:/t/f");
        assert_eq!(with_ours("V=1 -k"), "V=1 -k -j4 --jobserver-auth=fifo:/t/f");
    }

    #[test]
    fn a_number_of_jobs_gives_way_to_ours() {
        for text in ["-j8", "j8", "-j", "j", "-j 8", "j 8", "--jobs", "--jobs=8", "--jobs 8", " -j8 "] {
            assert_eq!(with_ours(text), " -j4 --jobserver-auth=fifo:/t/f", "{text}");
        }
        assert_eq!(with_ours("kj8"), "k -j4 --jobserver-auth=fifo:/t/f");
        assert_eq!(with_ours("-kj 8 -s"), " -k -s -j4 --jobserver-auth=fifo:/t/f");
        assert_eq!(with_ours("-j -s"), " -s -j4 --jobserver-auth=fifo:/t/f");
    }

    #[test]
    fn an_outer_jobserver_is_found_and_can_be_removed() {
        let of = |text| MakeFlags::parse(text).outer;
        assert_eq!(of("k -j8"), None);
        let fifo = " -j8 --jobserver-auth=fifo:/tmp/GMfifo1 -- A=b";
        assert_eq!(of(fifo), Some(OuterJobserver::Fifo("/tmp/GMfifo1".into())));
        assert_eq!(MakeFlags::parse(fifo).without_jobserver(), " -- A=b");
        for descriptors in ["k -j8 --jobserver-auth=3,4", "k -j --jobserver-fds=3,4", "k --jobserver-auth=-2,-2"] {
            assert_eq!(of(descriptors), Some(OuterJobserver::Descriptors), "{descriptors}");
            assert_eq!(MakeFlags::parse(descriptors).without_jobserver(), "k");
        }
    }

    #[test]
    fn the_last_address_counts() {
        let flags = MakeFlags::parse("--jobserver-fds=3,4 --jobserver-auth=fifo:/f");
        assert_eq!(flags.outer, Some(OuterJobserver::Fifo("/f".into())));
    }

    #[test]
    fn an_address_in_a_definition_is_no_jobserver() {
        assert_eq!(MakeFlags::parse("k -- A=--jobserver-auth=3,4 --jobserver-auth=3,4").outer, None);
    }
}
