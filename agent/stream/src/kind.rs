//! The kinds of a stream's records.

use super::stream_event::EventDetails;

/// The kind of a record: its `kind` in JSON, and what `--kind` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

    /// Those that every program on the host makes many of: a watcher gets them when it asks.
    pub const FREQUENT: [Self; 3] = [Self::Fork, Self::Exec, Self::Exit];

    pub fn is_frequent(self) -> bool {
        Self::FREQUENT.contains(&self)
    }

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
        fn a_kind_is_named_as_in_json(record in samples::record()) {
            let json = serde_json::to_value(&record).unwrap();
            prop_assert_eq!(&json["kind"], EventKind::of(&record.event).name());
        }
    }
}
