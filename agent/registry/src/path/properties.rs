//! What holds for any path, and for every form of a container's path.

use std::iter;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tests::{ID, spell};
use super::*;

/// Every form whose id the engine draws.
const HEX_FORMS: &[&str] = &[
    "/docker/<ID>",
    "/system.slice/docker-<ID>.scope",
    "/system.slice/cri-containerd-<ID>.scope",
    "/system.slice/containerd.service/kubepods-pod<UID_>.slice:cri-containerd:<ID>",
    "/system.slice/nerdctl-<ID>.scope",
    "/crio/crio-<ID>",
    "/kubepods.slice/kubepods-pod<UID_>.slice/crio-<ID>.scope",
    "/libpod_parent/libpod-<ID>",
    "/libpod_parent/<OTHER>/libpod-<ID>",
    "/machine.slice/libpod-<ID>.scope",
    "/system.slice/web.service/libpod-payload-<ID>",
    "/kubepods/besteffort/pod<UID>/<ID>",
    "/actions_job/<ID>",
];

/// Every form whose id is a name.
const NAME_FORMS: &[&str] = &[
    "/default/<NAME>",
    "/k8s.io/<NAME>",
    "/lxc.payload.<NAME>",
    "/lxc.payload/<NAME>",
    "/lxc/<NAME>",
    "/machine.slice/systemd-nspawn@<NAME>.service",
    "/machine.slice/machine-<NAME>.scope",
    "/agent/<NAME>",
];

/// A container's path, and its id.
fn container() -> impl Strategy<Value = (String, String)> {
    let by_id = (select(HEX_FORMS), "[0-9a-f]{64}")
        .prop_map(|(form, id)| (spell(&form.replace("<ID>", &id)), id));
    let by_name = (select(NAME_FORMS), "n[A-Za-z0-9_.-]{0,40}")
        .prop_map(|(form, name)| (form.replace("<NAME>", &name), name));
    prop_oneof![by_id, by_name]
}

/// A path made of what the grammar looks for, whole or cut short, in any order.
fn soup() -> impl Strategy<Value = String> {
    let forms = HEX_FORMS.iter().chain(NAME_FORMS);
    let words: Vec<String> = forms
        .flat_map(|form| form.split('/'))
        .chain([
            "burstable",
            r"machine-qemu\x2d1.scope",
            "lxc.monitor.a",
            ".",
            "..",
        ])
        .map(|word| spell(&word.replace("<NAME>", r"a\x2db")))
        .collect();
    let cut = (select(words.clone()), any::<Index>())
        .prop_map(|(word, at)| word.chars().take(at.index(word.len() + 1)).collect());
    let component =
        prop_oneof![6 => select(words), 1 => cut, 1 => "[a-f0-9]{63,65}", 1 => "[^/]{0,12}"];
    vec(component, 0..7).prop_map(|components: Vec<String>| {
        components
            .iter()
            .flat_map(|component| ["/", component])
            .collect()
    })
}

fn check(path: &str) -> Result<(), TestCaseError> {
    let NamedCgroup { identity, cgroup } = identify(path);
    let below = path.strip_prefix(cgroup);
    prop_assert!(
        below.is_some_and(|below| below.is_empty() || below.starts_with('/')),
        "{cgroup}"
    );
    let name = cgroup.rsplit('/').next().unwrap_or_default();
    match identity {
        PathIdentity::Container { id, .. } => {
            prop_assert!(name.contains(&id) || unescaped(name).contains(&id), "{id}");
            prop_assert!((1..=255).contains(&id.len()));
        }
        PathIdentity::Unit { name: unit } => prop_assert!(name.ends_with(&unit), "{unit}"),
        PathIdentity::Cgroup => prop_assert_eq!(cgroup, path),
        PathIdentity::Root => prop_assert_eq!(path, "/"),
    }
    Ok(())
}

/// Replaces each `\xHH`, one after the other.
fn unescaped(text: &str) -> String {
    let steps = iter::successors(Some(text.to_owned()), |text| {
        let at = text.find("\\x")?;
        let byte = u8::from_str_radix(text.get(at + 2..at + 4)?, 16).ok()?;
        Some(format!(
            "{}{}{}",
            &text[..at],
            char::from(byte),
            &text[at + 4..]
        ))
    });
    steps.last().unwrap_or_default()
}

fn is_container(path: &str) -> bool {
    matches!(identify(path).identity, PathIdentity::Container { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_has_a_place(path in any::<String>()) {
        check(&path)?;
        check(&format!("/{path}"))?;
    }

    #[test]
    fn any_soup_has_a_place(path in soup()) {
        check(&path)?;
    }

    #[test]
    fn every_form_gives_its_id((path, id) in container()) {
        let place = identify(&path);
        prop_assert_eq!(place.cgroup, &path);
        let PathIdentity::Container { id: found, .. } = place.identity else {
            return Err(TestCaseError::fail(format!("{path}: no container")));
        };
        prop_assert_eq!(found, id);
    }

    #[test]
    fn what_is_below_a_container_is_its_own(
        path in prop_oneof![1 => soup(), 3 => container().prop_map(|(path, _)| path)],
        below in prop_oneof![soup(), any::<String>(), container().prop_map(|(path, _)| path)],
    ) {
        prop_assume!(is_container(&path));
        let whole = format!("{path}/{}", below.trim_start_matches('/'));
        prop_assert_eq!(identify(&whole), identify(&path));
    }

    #[test]
    fn an_id_has_hexadecimal_digits_only(
        form in select(HEX_FORMS),
        at in 0..ID.len(),
        wrong in any::<char>().prop_filter("a digit", |c| !matches!(c, '0'..='9' | 'a'..='f')),
    ) {
        let id = format!("{}{wrong}{}", &ID[..at], &ID[at + 1..]);
        let path = spell(&form.replace("<ID>", &id));
        prop_assert!(!is_container(&path), "{path}");
    }

    #[test]
    fn an_id_has_64_digits(form in select(HEX_FORMS), id in "[0-9a-f]{0,63}|[0-9a-f]{65,80}") {
        let path = spell(&form.replace("<ID>", &id));
        prop_assert!(!is_container(&path), "{path}");
    }

    #[test]
    fn both_drivers_say_the_same_pod(
        uid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}",
        qos in select(vec![Qos::Guaranteed, Qos::Burstable, Qos::BestEffort]),
        root in select(vec![None, Some("kubelet")]),
    ) {
        let class = (qos != Qos::Guaranteed).then_some(qos.name());
        let pod = format!("pod{uid}");
        let names = root.into_iter().chain(["kubepods"]).chain(class).chain([&*pod]);
        let names: Vec<&str> = names.collect();
        let slice = names.iter().map(|name| name.replace('-', "_")).collect::<Vec<_>>().join("-");
        let expected = Some(Pod { uid, qos });
        let cgroupfs = format!("/{}/{ID}", names.join("/"));
        let systemd = format!("/{slice}.slice/docker-{ID}.scope");
        for path in [cgroupfs, systemd] {
            let PathIdentity::Container { pod, .. } = identify(&path).identity else {
                return Err(TestCaseError::fail(format!("{path}: no container")));
            };
            prop_assert_eq!(&pod, &expected);
        }
    }
}
