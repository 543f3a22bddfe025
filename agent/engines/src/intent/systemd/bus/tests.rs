//! Tests of systemd's answers, with a systemd that is none.

use super::fake::{Answer, start};
use super::*;

fn properties() -> Properties {
    Properties::from([
        ("ControlGroup", Variant::from("/system.slice/web.service")),
        ("MemoryMax", Variant::from(64_u64 << 20)),
        ("TasksMax", Variant::from(u64::MAX)),
        ("MainPID", Variant::from(4711_u32)),
        ("ControlPID", Variant::from(0_u32)),
        ("AllowedCPUs", Variant::from(vec![0b1011_u8, 1])),
        ("AllowedMemoryNodes", Variant::from(Vec::<u8>::new())),
        (
            "IOReadBandwidthMax",
            Variant::from(vec![("/dev/vda", 4096_u64)]),
        ),
    ])
}

#[tokio::test]
async fn a_unit_has_numbers_texts_sets_and_pairs() {
    let (_directory, sockets) = start(Answer::Unit(properties));
    let found = sockets.properties("web.service").await.unwrap().unwrap();
    assert_eq!(found.text("ControlGroup"), Ok("/system.slice/web.service"));
    assert_eq!(found.text(DESCRIPTION), Ok("The web"));
    assert_eq!(found.number("MemoryMax"), Ok(Some(64 << 20)));
    assert_eq!(found.number("TasksMax"), Ok(None));
    assert_eq!(found.number("NewerThanThis"), Ok(None));
    assert_eq!(found.pid("MainPID"), Ok(Some(4711)));
    assert_eq!(found.pid("ControlPID"), Ok(None));
    assert!(found.pid("MemoryMax").is_err());
    let cpus = found.numbers("AllowedCPUs").unwrap().unwrap();
    assert_eq!(cpus, Numbers::parse("0-1,3,8").unwrap());
    assert_eq!(found.numbers("AllowedMemoryNodes"), Ok(None));
    let pairs = found.by_path("IOReadBandwidthMax");
    assert_eq!(pairs, Ok(vec![("/dev/vda".to_owned(), 4096)]));
    let odd = found.number("ControlGroup").unwrap_err();
    assert_eq!(odd.property, "ControlGroup");
    assert!(found.numbers("MemoryMax").is_err() && found.text("MemoryMax").is_err());
}

#[tokio::test]
async fn a_unit_that_systemd_does_not_know_is_none() {
    let (_directory, sockets) = start(Answer::Unit(properties));
    for unit in ["other.service", "web.socket", "web", ""] {
        assert!(sockets.properties(unit).await.unwrap().is_none(), "{unit}");
    }
}

#[tokio::test]
async fn whoever_does_not_answer_is_named() {
    let (_directory, mut sockets) = start(Answer::Silence);
    sockets.patience = Duration::from_millis(50);
    let error = sockets
        .properties("web.service")
        .await
        .unwrap_err()
        .to_string();
    let private = sockets.private.display().to_string();
    assert!(
        error.contains(&private) && error.contains("waited"),
        "{error}"
    );
    let (_other, sockets) = start(Answer::Nonsense);
    let error = sockets.properties("web.service").await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_both_sockets_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let sockets = Sockets {
        private: directory.path().join("private"),
        bus: directory.path().join("bus"),
        patience: PATIENCE,
    };
    let error = sockets
        .properties("web.service")
        .await
        .unwrap_err()
        .to_string();
    for socket in [&sockets.private, &sockets.bus] {
        assert!(error.contains(&socket.display().to_string()), "{error}");
    }
}

#[test]
fn what_is_no_unit_s_object() {
    for object in [
        "/",
        "/org/freedesktop/systemd1",
        "unit/a",
        "_4",
        "_zz",
        "_ff",
    ] {
        assert_eq!(unit(object), None);
        assert_eq!(unit(&format!("{UNITS}_{object}")), None, "{object}");
    }
}

#[test]
fn objects_of_units() {
    for (name, object_name) in [
        ("cron.service", "cron_2eservice"),
        ("1a-b.scope", "_31a_2db_2escope"),
        ("user@1000.service", "user_401000_2eservice"),
        (r"dev-a\x2db.service", "dev_2da_5cx2db_2eservice"),
    ] {
        assert_eq!(
            object(name),
            format!("/org/freedesktop/systemd1/unit/{object_name}")
        );
        assert_eq!(unit(&object(name)).as_deref(), Some(name));
    }
}
