//! The flows: from a source to its metadata, its wheel, its source distribution.

mod builder;
mod claim;
mod errors;
mod event;
mod extensions;
mod flows;
mod frontend;
mod goal;
mod hints;
mod logs;
mod named_paths;
mod python;
mod run;
mod spelling;
mod tree;
mod warning;

pub use builder::FrontendBuilder;
pub use event::{BuildEvent, BuildObserver, JobId, Step};
pub use frontend::Frontend;
pub use goal::{DeclaredExtension, EnvironmentUse, Fallback, Goal, HookRun, Origin, Product, Report};
pub use logs::{KeptLogs, LogFolder};
pub use spelling::NearMiss;
pub use warning::BuildWarning;
