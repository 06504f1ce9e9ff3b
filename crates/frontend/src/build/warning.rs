//! What is to be told of a source beside its result.

use super::spelling::NearMiss;

/// Something that may not be as it was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildWarning {
    /// The backend did not find out what the project is called, and built it
    /// under the name `unknown`.
    #[error("the build backend found no name for it")]
    NoName,
    /// A name in `pyproject.toml` that nothing reads.
    #[error("{0}")]
    NearMiss(NearMiss),
    /// An archive was changed after it was made.
    #[error("its PKG-INFO says that it is {} {}", .pkg_info.0, .pkg_info.1)]
    OtherPkgInfo {
        /// The name and the version there.
        pkg_info: (String, String),
    },
    /// It is built with a Python that it does not support.
    #[error("it requires Python {requires_python}, and is built with {}.{}.{}", .version.0, .version.1, .version.2)]
    UnsupportedPython {
        /// Its Requires-Python.
        requires_python: String,
        /// The interpreter's major, minor and micro version.
        version: (u32, u32, u32),
    },
}
