//! A filter as the query of `GET /v1/events`:
//! `kind=oom&kind=clone&container=web-1&pid=1&namespace=net&comm=sh&host=true`, percent-encoded.

use form_urlencoded::Serializer;
use thiserror::Error;

use super::filter::EventFilter;
use super::value::{
    FilterValueError, parse_comm, parse_container, parse_host, parse_kind, parse_namespace,
    parse_pid,
};

type Add = fn(&mut EventFilter, &str) -> Result<(), FilterValueError>;

/// The parameters of a query, and how each adds its value to the filter.
const PARAMETERS: [(&str, Add); 6] = [
    ("kind", |filter, value| {
        filter.kinds.insert(parse_kind(value)?);
        Ok(())
    }),
    ("container", |filter, value| {
        filter.containers.insert(parse_container(value)?);
        Ok(())
    }),
    ("pid", |filter, value| {
        filter.pids.insert(parse_pid(value)?);
        Ok(())
    }),
    ("namespace", |filter, value| {
        filter.namespaces.insert(parse_namespace(value)?);
        Ok(())
    }),
    ("comm", |filter, value| {
        filter.comms.insert(parse_comm(value)?);
        Ok(())
    }),
    ("host", |filter, value| {
        filter.host = parse_host(value)?;
        Ok(())
    }),
];

/// Why a query cannot be read as a filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum QueryError {
    #[error("unknown parameter {name:?}: want one of {}", PARAMETERS.map(|(it, _)| it).join(", "))]
    Parameter { name: String },
    #[error("invalid value {value:?} for parameter {parameter}")]
    Value {
        parameter: &'static str,
        value: String,
        source: FilterValueError,
    },
}

/// The query that [`parse`] reads as `filter`; empty for the default filter.
pub fn write(filter: &EventFilter) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(filter.kinds.iter().map(|it| ("kind", it.name())));
    query.extend_pairs(filter.containers.iter().map(|it| ("container", it)));
    query.extend_pairs(filter.pids.iter().map(|it| ("pid", it.to_string())));
    query.extend_pairs(filter.namespaces.iter().map(|it| ("namespace", it.name())));
    query.extend_pairs(filter.comms.iter().map(|it| ("comm", it)));
    if filter.host {
        query.append_pair("host", "true");
    }
    query.finish()
}

/// Reads a query, without its `?`, as a filter.
pub fn parse(query: &str) -> Result<EventFilter, QueryError> {
    let mut filter = EventFilter::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some((parameter, add)) = PARAMETERS.into_iter().find(|(it, _)| *it == name) else {
            return Err(QueryError::Parameter {
                name: name.into_owned(),
            });
        };
        add(&mut filter, &value).map_err(|source| QueryError::Value {
            parameter,
            value: value.into_owned(),
            source,
        })?;
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    #[test]
    fn a_filter_is_written_as_documented() {
        let query = "kind=clone&kind=oom&container=web-1&pid=1&namespace=net&comm=a+b%26&host=true";
        let filter = parse(query).unwrap();
        assert_eq!(filter.comms, ["a b&".to_owned()].into());
        assert!(filter.host);
        assert_eq!(write(&filter), query);
        assert_eq!(write(&EventFilter::default()), "");
        assert_eq!(parse("").unwrap(), EventFilter::default());
        assert_eq!(parse("host=false").unwrap(), EventFilter::default());
    }

    #[test]
    fn an_error_names_what_was_wrong_and_what_is_wanted() {
        use std::error::Error;

        for (query, text, wanted) in [
            (
                "kinds=oom",
                "unknown parameter \"kinds\": want one of kind, container, pid, namespace, comm, host",
                None,
            ),
            (
                "kind=oops",
                "invalid value \"oops\" for parameter kind",
                Some(
                    "want one of clone, unshare, setns, oom, container, escape, fork, exec, exit, lost",
                ),
            ),
            (
                "kind=oom&namespace=n%0Aet",
                "invalid value \"n\\net\" for parameter namespace",
                Some("want one of cgroup, ipc, mnt, net, pid, time, user, uts"),
            ),
            (
                "pid",
                "invalid value \"\" for parameter pid",
                Some("want a process id, a whole number above 0"),
            ),
            (
                "container=",
                "invalid value \"\" for parameter container",
                Some("want a container's name or id"),
            ),
            (
                "comm=a-very-long-worker",
                "invalid value \"a-very-long-worker\" for parameter comm",
                Some("want at most 15 bytes, as many as the kernel keeps: \"a-very-long-wor\""),
            ),
            (
                "host=yes",
                "invalid value \"yes\" for parameter host",
                Some("want true or false"),
            ),
        ] {
            let error = parse(query).unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.source().map(ToString::to_string).as_deref(), wanted);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(filter in samples::filter()) {
            let query = write(&filter);
            prop_assert!(query.is_ascii());
            prop_assert!(!query.contains([' ', '#', '\n']));
            prop_assert_eq!(parse(&query).unwrap(), filter);
        }

        #[test]
        fn any_query_is_read_or_refused(query in any::<Vec<char>>()) {
            let query: String = query.into_iter().collect();
            if let Ok(filter) = parse(&query) {
                prop_assert_eq!(parse(&write(&filter)).unwrap(), filter);
            }
        }
    }
}
