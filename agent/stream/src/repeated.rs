//! A cache of the JSON that many successive events share. Most of a line is the container and the namespaces, and the
//! events of a busy cgroup have the same ones.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use agent_model::container::{Container, Namespaces};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// The slots of a cache. A value's hash chooses its slot.
const SLOTS: usize = 16;

type Cache<T> = RefCell<[Option<(T, Box<RawValue>)>; SLOTS]>;

thread_local! {
    static CONTAINERS: Cache<Arc<Container>> = RefCell::default();
    static NAMESPACES: Cache<Namespaces> = RefCell::default();
}

/// Serializes a container, for fields that are written as JSON only.
pub(crate) fn container<S: Serializer>(
    value: &Option<Arc<Container>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(value) = value else {
        return serializer.serialize_none();
    };
    // The low bits are alike: allocations are at least 16 bytes apart, and mostly more.
    let hash = Arc::as_ptr(value) as usize >> 6;
    write(&CONTAINERS, value, hash, Arc::ptr_eq, serializer)
}

/// Serializes namespaces, for fields that are written as JSON only.
pub(crate) fn namespaces<S: Serializer>(
    value: &Namespaces,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let hash = value.mnt as usize;
    write(&NAMESPACES, value, hash, PartialEq::eq, serializer)
}

fn write<T: Clone + Serialize, S: Serializer>(
    cache: &'static LocalKey<Cache<T>>,
    value: &T,
    hash: usize,
    is_same: impl Fn(&T, &T) -> bool,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    cache.with_borrow_mut(|slots| {
        let slot = &mut slots[hash % SLOTS];
        match slot {
            Some((cached, json)) if is_same(cached, value) => json.serialize(serializer),
            _ => {
                let json = to_raw_value(value).map_err(S::Error::custom)?;
                let (_, json) = slot.insert((value.clone(), json));
                json.serialize(serializer)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::samples;
    use crate::stream_event::StreamEvent;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_record_says_its_own(
            events in prop::collection::vec(samples::event(), 1..8),
            order in prop::collection::vec(0..8_usize, 40),
        ) {
            for at in order {
                let event = &events[at % events.len()];
                let line = serde_json::to_string(event).unwrap();
                prop_assert_eq!(&serde_json::from_str::<StreamEvent>(&line).unwrap(), event);
            }
        }
    }
}
