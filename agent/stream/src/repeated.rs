//! What many records in a row have in common is put into JSON once: most of a line is the container and the namespaces,
//! and those of a busy cgroup's are the same each time.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use agent_model::container::{Container, Namespaces};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Values that are remembered, each in the place that its number gives it.
const PLACES: usize = 16;

type Remembered<T> = RefCell<[Option<(T, Box<RawValue>)>; PLACES]>;

thread_local! {
    static CONTAINERS: Remembered<Arc<Container>> = RefCell::default();
    static NAMESPACES: Remembered<Namespaces> = RefCell::default();
}

/// For fields that are written as JSON and nothing else.
pub fn container<S: Serializer>(
    value: &Option<Arc<Container>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(value) = value else {
        return serializer.serialize_none();
    };
    // Allocations are 16 bytes apart at least, and mostly more.
    let number = Arc::as_ptr(value) as usize >> 6;
    write(&CONTAINERS, value, number, Arc::ptr_eq, serializer)
}

/// Likewise.
pub fn namespaces<S: Serializer>(value: &Namespaces, serializer: S) -> Result<S::Ok, S::Error> {
    let number = value.mnt as usize;
    write(&NAMESPACES, value, number, PartialEq::eq, serializer)
}

fn write<T: Clone + Serialize, S: Serializer>(
    remembered: &'static LocalKey<Remembered<T>>,
    value: &T,
    number: usize,
    is: impl Fn(&T, &T) -> bool,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    remembered.with_borrow_mut(|places| {
        let place = &mut places[number % PLACES];
        match place {
            Some((known, json)) if is(known, value) => json.serialize(serializer),
            _ => {
                let json = to_raw_value(value).map_err(S::Error::custom)?;
                let (_, json) = place.insert((value.clone(), json));
                json.serialize(serializer)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::stream_event::StreamEvent;
    use crate::samples;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_record_says_its_own(
            records in prop::collection::vec(samples::record(), 1..8),
            order in prop::collection::vec(0..8_usize, 40),
        ) {
            for at in order {
                let record = &records[at % records.len()];
                let line = serde_json::to_string(record).unwrap();
                prop_assert_eq!(&serde_json::from_str::<StreamEvent>(&line).unwrap(), record);
            }
        }
    }
}
