//! The container that a name means, among given candidates.

use super::*;

const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";

fn claimed(cgroup: &str) -> RunningContainer {
    (location::of(cgroup).container, Some(1))
}

fn named(cgroup: &str, name: &str) -> RunningContainer {
    let claim = Claim::of(cgroup).unwrap();
    let mut container = called(&claim, &Confirmation::of(&claim));
    container.name = name.to_owned();
    (container, Some(1))
}

/// Confirms claims of cgroups below the directories of engines.
fn fresh() -> Confirmer {
    let believed = |claim: &Claim| {
        let starts = ["/docker/", "/agent/", "/user/agent/"];
        let believed = starts.iter().any(|it| claim.cgroup.starts_with(it));
        let user = u32::from(claim.cgroup.starts_with("/user/"));
        believed.then(|| Confirmation {
            user,
            ..Confirmation::of(claim)
        })
    };
    Confirmer {
        witnesses: Witnesses::new(believed),
        engine: None,
        by: EngineArgs::default(),
        user: 0,
        server: false,
        told: HashMap::new(),
    }
}

async fn found(name: &str) -> Result<Option<String>, String> {
    let other = format!("{}00", &ID[..62]);
    let found = [
        named(&format!("/docker/{ID}"), "web"),
        named(&format!("/docker/{other}"), "9adc5"),
        named("/agent/db", "db"),
        named("/agent/other", "db"),
        named("/user/agent/web", "web"),
        named("/user/agent/theirs", "theirs"),
        claimed("/evil/agent/web"),
        claimed("/evil/agent/only"),
        claimed(&format!("/evil/docker/{ID}")),
    ];
    let known = ContainerSearch::new(name, &found, &fresh()).any().await;
    let known = known.map_err(|error| error.to_string())?;
    Ok(known.map(|it| it.container.cgroup))
}

#[tokio::test]
async fn a_name_means_one_that_is_confirmed() {
    let docker = format!("/docker/{ID}");
    let other = format!("/docker/{}00", &ID[..62]);
    for (name, cgroup) in [
        ("web", Some(&*docker)),
        (ID, Some(&docker)),
        (&docker, Some(&docker)),
        // A whole name takes precedence over the beginning of an id.
        ("9adc5", Some(&other)),
        (&ID[..63], Some(&docker)),
        ("/agent/db", Some("/agent/db")),
        ("/user/agent/theirs", Some("/user/agent/theirs")),
        ("9ad", None),
        ("", None),
        ("nobody", None),
    ] {
        assert_eq!(found(name).await.unwrap().as_deref(), cgroup, "{name}");
    }
}

#[tokio::test]
async fn what_is_not_one_is_an_error_that_names_the_cgroups() {
    for (name, wanted) in [
        ("db", ["/agent/db", "/agent/other"]),
        ("theirs", ["user 1's", "/user/agent/theirs"]),
        ("9adc", [&*format!("/docker/{ID}"), "several containers"]),
        ("only", ["/evil/agent/only", "claims"]),
        ("/evil/agent/web", ["/evil/agent/web", "claims"]),
    ] {
        let error = found(name).await.unwrap_err();
        assert!(wanted.iter().all(|it| error.contains(it)), "{error}");
    }
}
