//! Any events and filters at all, for properties.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use agent_ebpf::NamespaceType;
use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerAction, ContainerKind, Exit, Namespaces};
use agent_model::labels::{ContainerLabels, LabelPatterns, PodName};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::filter::EventFilter;
use super::super::kind::EventKind;
use super::super::stream_event::*;
use super::super::value::parse_comm;

/// Text as a container may choose it: what it may look like, what terminals obey, and anything.
fn text() -> BoxedStrategy<String> {
    let hostile = prop::sample::select(vec![
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\n",
        "\r",
        "\t",
        "\0",
        "\x7f",
        "\u{9b}2J",
        "\u{202e}",
        "\u{2066}",
        "\u{200b}",
        "\u{200d}",
        "\u{fe0f}",
        "e\u{301}",
        "\u{2028}",
        "日本",
        "👩",
        "…",
        "لا",
        "\\",
        "\"",
        " ",
        "host",
        "?",
    ]);
    prop_oneof![
        "[a-z0-9_.-]{0,15}",
        "[a-f0-9]{64}",
        vec(hostile, 0..4).prop_map(|parts| parts.concat()),
        vec(any::<char>(), 0..40).prop_map(String::from_iter),
    ]
    .boxed()
}

fn time() -> impl Strategy<Value = Moment> {
    any::<u64>().prop_map(|ns| (UNIX_EPOCH + Duration::from_nanos(ns)).into())
}

fn any_process() -> impl Strategy<Value = EventProcess> {
    (any::<[u32; 5]>(), text(), time()).prop_map(
        |([pid, tid, ppid, ns_pid, uid], comm, start_time)| EventProcess {
            pid,
            tid,
            ppid,
            ns_pid,
            comm,
            uid,
            start_time,
        },
    )
}

fn any_container() -> impl Strategy<Value = Container> {
    let kind = prop::sample::select(vec![
        ContainerKind::Container,
        ContainerKind::Unit,
        ContainerKind::Sandbox,
        ContainerKind::Cgroup,
    ]);
    let confirmed = option::of(any::<bool>());
    let texts = (text(), text(), text(), text(), text());
    (kind, texts, confirmed, option::of(any_pod()), any_labels()).prop_map(
        |(kind, (id, name, runtime, image, cgroup), confirmed, pod, labels)| Container {
            kind,
            id,
            name,
            runtime,
            image,
            confirmed,
            cgroup,
            pod,
            labels,
        },
    )
}

fn any_pod() -> impl Strategy<Value = PodName> {
    (text(), text(), text()).prop_map(|(namespace, pod, container)| PodName {
        namespace,
        pod,
        container,
    })
}

fn any_labels() -> impl Strategy<Value = ContainerLabels> {
    btree_map(text(), text(), 0..3).prop_map(|labels| {
        let labels = labels.iter().map(|(name, value)| (&**name, &**value));
        LabelPatterns::all().select(labels)
    })
}

fn any_subject() -> BoxedStrategy<EventSubject> {
    (any_process(), option::of(any_container()))
        .prop_map(|(process, container)| EventSubject {
            process,
            container: container.map(Arc::new),
        })
        .boxed()
}

fn any_namespaces() -> impl Strategy<Value = Namespaces> {
    any::<[u32; 10]>().prop_map(
        |[
            cgroup,
            ipc,
            mnt,
            net,
            pid,
            pid_for_children,
            time,
            time_for_children,
            user,
            uts,
        ]| {
            Namespaces {
                cgroup,
                ipc,
                mnt,
                net,
                pid,
                pid_for_children,
                time,
                time_for_children,
                user,
                uts,
            }
        },
    )
}

fn any_caller() -> BoxedStrategy<Caller> {
    (
        any_process(),
        option::of(any_container()),
        any::<bool>(),
        any_namespaces(),
    )
        .prop_map(
            |(process, container, container_unknown, namespaces)| Caller {
                process,
                container: container.map(Arc::new),
                container_unknown,
                namespaces,
            },
        )
        .boxed()
}

fn any_call() -> impl Strategy<Value = NamespaceCall> {
    let name = || {
        prop_oneof![
            prop::sample::select(vec!["net", "pid", "mnt", "pid_for_children"])
                .prop_map(String::from),
            text()
        ]
    };
    let change = any::<(u32, u32)>().prop_map(|(from, to)| InodeChange { from, to });
    let result = prop_oneof![Just("0".to_owned()), Just("EPERM".to_owned()), text()];
    (vec(name(), 0..4), btree_map(name(), change, 0..4), result).prop_map(
        |(requested, changed, result)| NamespaceCall {
            requested,
            changed,
            result,
        },
    )
}

fn any_joined() -> impl Strategy<Value = Joined> {
    prop_oneof![
        any_container().prop_map(|it| Joined::Container(Arc::new(it))),
        text().prop_map(Joined::Host),
    ]
}

fn any_oom() -> BoxedStrategy<Oom> {
    let owner = (
        text(),
        any::<Option<u64>>(),
        any::<u64>(),
        any::<Option<u64>>(),
        any::<u64>(),
    )
        .prop_map(
            |(cgroup, limit_bytes, usage_bytes, swap_limit_bytes, swap_usage_bytes)| LimitOwner {
                cgroup,
                limit_bytes,
                usage_bytes,
                swap_limit_bytes,
                swap_usage_bytes,
            },
        );
    let rss = any::<[u64; 3]>().prop_map(|[anon_bytes, file_bytes, shmem_bytes]| Rss {
        anon_bytes,
        file_bytes,
        shmem_bytes,
    });
    (
        text(),
        any_subject(),
        any_subject(),
        option::of(owner),
        rss,
        any::<bool>(),
    )
        .prop_map(
            |(constraint, victim, trigger, limit_owner, rss, init_killed)| Oom {
                constraint,
                victim_cgroup: limit_owner.as_ref().map(|owner| owner.cgroup.clone()),
                victim,
                trigger,
                limit_owner,
                rss,
                init_killed,
            },
        )
        .boxed()
}

fn any_exit() -> impl Strategy<Value = Exit> {
    any::<(u8, u8, bool, u64)>().prop_map(|(code, signal, oom_killed, duration_ms)| Exit {
        code,
        signal,
        oom_killed,
        duration_ms,
    })
}

fn any_details() -> BoxedStrategy<EventDetails> {
    let action = prop::sample::select(vec![ContainerAction::Start, ContainerAction::Stop]);
    prop_oneof![
        (any_call(), any_subject()).prop_map(|(call, child)| EventDetails::Clone { call, child }),
        any_call().prop_map(|call| EventDetails::Unshare { call }),
        (any_call(), option::of(any_joined()))
            .prop_map(|(call, joined)| EventDetails::Setns { call, joined }),
        any_oom().prop_map(|oom| EventDetails::Oom(Box::new(oom))),
        any_subject().prop_map(|child| EventDetails::Fork { child }),
        (vec(text(), 0..4), any::<bool>()).prop_map(|(argv, argv_truncated)| EventDetails::Exec {
            // No argument has a NUL in it.
            argv: argv.iter().map(|word| word.replace('\0', "")).collect(),
            argv_truncated,
        }),
        any_exit().prop_map(|exit| EventDetails::Exit { exit }),
        (text(), any::<u32>(), text()).prop_map(|(namespace, inode, how)| EventDetails::Escape {
            namespace,
            inode,
            how,
        }),
        (action, option::of(any_exit()), option::of(text())).prop_map(|(action, exit, result)| {
            EventDetails::Container {
                action,
                exit,
                result,
            }
        }),
        (btree_map(text(), any::<u64>(), 0..6), time())
            .prop_map(|(kinds, since)| EventDetails::Lost { kinds, since }),
    ]
    .boxed()
}

/// Any event that the types allow.
pub fn event() -> BoxedStrategy<StreamEvent> {
    (time(), option::weighted(0.9, any_caller()), any_details())
        .prop_map(|(time, caller, details)| StreamEvent {
            time,
            caller,
            details,
        })
        .boxed()
}

/// Any filter that can be asked for.
pub fn filter() -> BoxedStrategy<EventFilter> {
    let container = text().prop_filter("no container has an empty name", |it| !it.is_empty());
    let comm =
        text().prop_map(|it| parse_comm(&it).unwrap_or_else(|_| it.chars().take(3).collect()));
    (
        btree_set(prop::sample::select(EventKind::ALL.to_vec()), 0..3),
        btree_set(container, 0..3),
        btree_set(any::<std::num::NonZeroU32>(), 0..3),
        btree_set(prop::sample::select(NamespaceType::ALL.to_vec()), 0..3),
        btree_set(comm, 0..3),
        any::<bool>(),
    )
        .prop_map(
            |(kinds, containers, pids, namespaces, comms, host)| EventFilter {
                kinds,
                containers,
                pids,
                namespaces,
                comms,
                host,
            },
        )
        .boxed()
}
