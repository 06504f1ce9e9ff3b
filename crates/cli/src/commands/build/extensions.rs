//! What the command line says of extensions of metadata.

use hookpool_frontend::{ExtensionPolicy, Source, WhenRequired};

use crate::arguments::build::{ExtensionArguments, OnRequiredExtension};
use crate::exit::Failure;

/// The policy; its sources are looked at now, and not when some wheel among
/// thousands asks for one.
pub fn policy(arguments: ExtensionArguments) -> Result<ExtensionPolicy, Failure> {
    let when_required = match arguments.on_required_extension {
        OnRequiredExtension::Fail => WhenRequired::Fail,
        OnRequiredExtension::Source => WhenRequired::UseSource,
    };
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("--source-for: {error}"));
    let mut policy = ExtensionPolicy::new(arguments.supports_extension, when_required);
    for (name, path) in arguments.source_for {
        match Source::find(&path).map_err(|error| wrong(&error))? {
            Source::Wheel(path) => {
                let message = format!("{}: expected a source tree or a source distribution", path.display());
                return Err(wrong(&message));
            }
            source => policy.add_source(&name, source).map_err(|error| wrong(&error))?,
        }
    }
    Ok(policy)
}
