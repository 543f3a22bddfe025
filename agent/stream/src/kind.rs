//! The kinds of a stream's events.

use super::stream_event::EventDetails;

/// The kind of an event: its `kind` in JSON, and a value of `--kind`. [`EventDetails`] describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each variant is named as its variant of EventDetails"
)]
pub enum EventKind {
    Clone,
    Unshare,
    Setns,
    Oom,
    Container,
    Escape,
    Fork,
    Exec,
    Exit,
    Lost,
}

impl EventKind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Clone,
        Self::Unshare,
        Self::Setns,
        Self::Oom,
        Self::Container,
        Self::Escape,
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Lost,
    ];

    /// The kinds that every program on the host causes often. A watcher gets them only when it asks for them.
    pub const FREQUENT: [Self; 3] = [Self::Fork, Self::Exec, Self::Exit];

    /// Whether a watcher gets the kind only when it asks for it.
    pub fn is_frequent(self) -> bool {
        Self::FREQUENT.contains(&self)
    }

    /// The kind as JSON and `--kind` write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Unshare => "unshare",
            Self::Setns => "setns",
            Self::Oom => "oom",
            Self::Container => "container",
            Self::Escape => "escape",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Lost => "lost",
        }
    }

    /// The kind of an event.
    pub const fn of(event: &EventDetails) -> Self {
        match event {
            EventDetails::Clone { .. } => Self::Clone,
            EventDetails::Unshare { .. } => Self::Unshare,
            EventDetails::Setns { .. } => Self::Setns,
            EventDetails::Oom(_) => Self::Oom,
            EventDetails::Container { .. } => Self::Container,
            EventDetails::Escape { .. } => Self::Escape,
            EventDetails::Fork { .. } => Self::Fork,
            EventDetails::Exec { .. } => Self::Exec,
            EventDetails::Exit { .. } => Self::Exit,
            EventDetails::Lost { .. } => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    proptest! {
        #[test]
        fn a_kind_is_named_as_in_json(event in samples::event()) {
            let json = serde_json::to_value(&event).unwrap();
            prop_assert_eq!(&json["kind"], EventKind::of(&event.details).name());
        }
    }
}
