//! Numbers of requests, workers and templates, each unique within its supervisor.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub struct $name(pub(crate) u64);

        impl $name {
            /// The number, counted from 1.
            #[must_use]
            pub fn number(self) -> u64 {
                self.0
            }
        }

        /// For a number that was written down; it may be that of nothing.
        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id! {
    /// The number of a request.
    RequestId
}

id! {
    /// The number of a worker, which is never reused, unlike a pid.
    WorkerId
}

id! {
    /// The number of a template.
    TemplateId
}
