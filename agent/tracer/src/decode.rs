//! Decodes and checks records of the rings: bytes become a typed [`Event`].

use agent_ebpf::{
    ARGV_MAX, CgroupChangeRecord, CgroupMkdirRecord, CloneRecord, Constraint, EscapeRecord,
    ExecRecord, ExitRecord, ForkBesideRecord, ForkRecord, Header, How, NamespaceCallRecord,
    NamespaceType, OomRecord, PATH_MAX, RecordKind,
};
use agent_model::event::{Arguments, Body, Event};
use agent_sys::{Contract, from_bytes};

/// Why bytes of a ring are not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum DecodeError {
    #[error("a record of {0} bytes is too short to say its kind")]
    Short(usize),
    #[error("no kind of record has the number {0}")]
    Kind(u32),
    #[error("a record of kind {} cannot have {bytes} bytes", kind.name())]
    Size { kind: RecordKind, bytes: usize },
    #[error("a path of {0} bytes is longer than a record")]
    Path(u64),
    #[error("no OOM constraint has the number {0}")]
    Constraint(u32),
    #[error("no namespace type has the number {0}")]
    NamespaceType(u32),
    #[error("no way into a namespace has the number {0}")]
    How(u32),
}

/// Returns the kind that a record's header states.
///
/// # Errors
/// The record is too short or has an unknown kind.
pub fn kind(bytes: &[u8]) -> Result<RecordKind, DecodeError> {
    let number = bytes.first_chunk().ok_or(DecodeError::Short(bytes.len()))?;
    let number = u32::from_ne_bytes(*number);
    RecordKind::from_number(number).ok_or(DecodeError::Kind(number))
}

/// The time in a record's header, in ns of CLOCK_BOOTTIME; 0 if the bytes are no record.
pub fn time(bytes: &[u8]) -> u64 {
    let header = bytes.get(..size_of::<Header>());
    header
        .and_then(from_bytes::<Header>)
        .map_or(0, |it| it.time)
}

/// Decodes a record.
///
/// # Errors
/// The kind is unknown, the size is not one of the kind's, or a field has a value that it cannot have.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = kind(bytes)?;
    match kind {
        RecordKind::Clone => {
            let record: CloneRecord = read(kind, bytes)?;
            Ok(event(&record.header, Body::Clone(Box::new(record))))
        }
        RecordKind::Unshare => {
            let record: NamespaceCallRecord = read(kind, bytes)?;
            Ok(event(&record.header, Body::Unshare(record)))
        }
        RecordKind::Setns => {
            let record: NamespaceCallRecord = read(kind, bytes)?;
            Ok(event(&record.header, Body::Setns(record)))
        }
        RecordKind::Oom => {
            let record: OomRecord = read(kind, bytes)?;
            let constraint = Constraint::from_number(record.constraint)
                .ok_or(DecodeError::Constraint(record.constraint))?;
            Ok(event(
                &record.header,
                Body::Oom(Box::new(record), constraint),
            ))
        }
        RecordKind::CgroupMkdir => {
            let record: CgroupMkdirRecord = read(kind, bytes)?;
            let path = path(&record)?;
            Ok(event(
                &record.header,
                Body::CgroupMkdir {
                    cgroup: record.cgroup,
                    path,
                },
            ))
        }
        RecordKind::CgroupRmdir => {
            let record: CgroupChangeRecord = read(kind, bytes)?;
            Ok(event(
                &record.header,
                Body::CgroupRmdir {
                    cgroup: record.cgroup,
                },
            ))
        }
        RecordKind::CgroupPopulated => {
            let record: CgroupChangeRecord = read(kind, bytes)?;
            let populated = record.populated != 0;
            let body = Body::CgroupPopulated {
                cgroup: record.cgroup,
                populated,
            };
            Ok(event(&record.header, body))
        }
        RecordKind::Exec => {
            let record: ExecRecord = read(kind, bytes)?;
            Ok(event(&record.header, Body::Exec(arguments(&record))))
        }
        RecordKind::Exit => {
            let record: ExitRecord = read(kind, bytes)?;
            Ok(event(
                &record.header,
                Body::Exit {
                    status: record.status,
                    oom_killed: record.oom_killed != 0,
                },
            ))
        }
        RecordKind::Fork => {
            if let Some(record) = from_bytes::<ForkBesideRecord>(bytes) {
                let child = record.child();
                return Ok(event(&record.header, Body::Fork { child }));
            }
            let record: ForkRecord = read(kind, bytes)?;
            let child = record.child;
            Ok(event(&record.header, Body::Fork { child }))
        }
        RecordKind::Escape => {
            let record: EscapeRecord = read(kind, bytes)?;
            let namespace = NamespaceType::from_number(record.namespace)
                .ok_or(DecodeError::NamespaceType(record.namespace))?;
            let how = How::from_number(record.how).ok_or(DecodeError::How(record.how))?;
            let body = Body::Escape {
                namespace,
                inode: record.inode,
                how,
            };
            Ok(event(&record.header, body))
        }
    }
}

fn read<T: Contract>(kind: RecordKind, bytes: &[u8]) -> Result<T, DecodeError> {
    // The ring states the size that the program reserved. All records are multiples of 8 bytes long.
    from_bytes(bytes).ok_or(DecodeError::Size {
        kind,
        bytes: bytes.len(),
    })
}

fn event(header: &Header, body: Body) -> Event {
    Event {
        time: header.time,
        caller: header.task,
        body,
    }
}

fn arguments(record: &ExecRecord) -> Arguments {
    let length = usize::try_from(record.argv_len).unwrap_or(usize::MAX);
    Arguments {
        bytes: record.argv[..length.min(ARGV_MAX)].into(),
        cut: length > ARGV_MAX,
    }
}

fn path(record: &CgroupMkdirRecord) -> Result<String, DecodeError> {
    let length = usize::try_from(record.path_len)
        .ok()
        .filter(|length| *length < PATH_MAX);
    let bytes = length.and_then(|length| record.path.get(..length));
    let bytes = bytes.ok_or(DecodeError::Path(record.path_len))?;
    Ok(agent_host::path::to_text(bytes))
}

#[cfg(test)]
mod tests {
    use agent_ebpf::CgroupKey;
    use agent_sys::as_bytes;
    use proptest::prelude::*;

    use super::*;

    fn header(kind: RecordKind) -> Header {
        Header {
            kind: kind as u32,
            time: 7,
            ..Header::default()
        }
    }

    fn mkdir(path_len: u64) -> CgroupMkdirRecord {
        let mut path = [0; PATH_MAX];
        path[..5].copy_from_slice(b"/a/\xffb");
        let cgroup = CgroupKey {
            id: 3,
            hierarchy: 4,
            zero: 0,
        };
        CgroupMkdirRecord {
            header: header(RecordKind::CgroupMkdir),
            cgroup,
            path_len,
            path,
        }
    }

    #[test]
    fn a_record_is_its_event() {
        let Event {
            time: 7,
            body: Body::CgroupMkdir { cgroup, path },
            ..
        } = decode(as_bytes(&mkdir(5))).unwrap()
        else {
            panic!("another event")
        };
        assert_eq!(
            (cgroup.id, cgroup.hierarchy, path.as_str()),
            (3, 4, "//a/\\xffb")
        );
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        assert_eq!(decode(&[1, 2]).unwrap_err(), DecodeError::Short(2));
        assert_eq!(decode(&[99, 0, 0, 0]).unwrap_err(), DecodeError::Kind(99));
        let error = DecodeError::Size {
            kind: RecordKind::Clone,
            bytes: 8,
        };
        assert_eq!(decode(&[0; 8]).unwrap_err(), error);
        let error = DecodeError::Path(PATH_MAX as u64);
        assert_eq!(
            decode(as_bytes(&mkdir(PATH_MAX as u64))).unwrap_err(),
            error
        );
        let exit = ExitRecord {
            header: header(RecordKind::Exit),
            status: 9,
            oom_killed: 0,
        };
        assert!(decode(&as_bytes(&exit)[..170]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1300), kind in 0u8..12) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            bytes.iter_mut().skip(1).take(3).for_each(|byte| *byte = 0);
            for size in [176, 184, 192, 224, 320, 328, 408, 1200, 1216] {
                let _ = decode(&bytes[..bytes.len().min(size)]);
            }
            let _ = decode(&bytes);
        }
    }
}
