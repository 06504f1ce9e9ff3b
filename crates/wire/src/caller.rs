//! What a hook inherits from the program that asks for it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the process of a hook inherits, in place of what the service has: of a program
/// that sends it, its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// All environment variables, each as its name and its value.
    pub variables: Vec<(Text, Text)>,
    /// The file mode creation mask (umask(2)).
    #[schema(maximum = 511)]
    pub umask: u32,
    /// Resource limits (getrlimit(2)); others stay those of the service.
    #[serde(default)]
    pub limits: Vec<ResourceLimit>,
}

/// Text that the system does not require to be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Text {
    /// It is UTF-8.
    Text(String),
    /// It is not.
    Bytes {
        /// The bytes.
        base64: String,
    },
}

/// A resource limit of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimit {
    /// Its name in getrlimit(2), such as `RLIMIT_NOFILE`.
    pub resource: String,
    /// The limit that applies; null: none.
    pub soft: Option<u64>,
    /// The highest that the process may set; null: none.
    pub hard: Option<u64>,
}
