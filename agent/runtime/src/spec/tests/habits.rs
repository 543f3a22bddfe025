//! Tests of flags that people bring from docker: labels, files of variables, mounts in the long form, devices.

use agent_host::devices::DeviceNode;

use super::*;

/// The nodes at the paths that these tests name.
pub(super) fn device_nodes() -> HashMap<PathBuf, Result<Vec<DeviceNode>, String>> {
    let node = |below: &str, is_block, major, minor| DeviceNode {
        below: below.into(),
        is_block,
        major,
        minor,
        mode: 0o660,
        uid: 0,
        gid: 6,
    };
    let disk = node("", true, 8, 0);
    let sound = [node("seq", false, 116, 1), node("by-id/a", false, 116, 2)];
    let all = [node("null", false, 1, 3), node("sda", true, 8, 0)];
    HashMap::from([
        ("/dev/sda".into(), Ok(vec![disk])),
        ("/dev/snd".into(), Ok(sound.into())),
        ("/dev".into(), Ok(all.into())),
        ("/dev/file".into(), Ok(Vec::new())),
        ("/dev/none".into(), Err("No such file".to_owned())),
    ])
}

fn nodes(config: &Value) -> Vec<String> {
    let nodes = config["linux"]["devices"].as_array().into_iter().flatten();
    let text = |it: &Value| {
        let kind = it["type"].as_str().unwrap_or_default();
        let path = it["path"].as_str().unwrap_or_default();
        format!("{kind} {}:{} {path}", it["major"], it["minor"])
    };
    nodes.map(text).collect()
}

#[test]
fn devices_get_nodes_and_rules() {
    let config = config("--device /dev/sda:/dev/xvda:r --device /dev/snd");
    assert_eq!(
        nodes(&config),
        [
            "b 8:0 /dev/xvda",
            "c 116:1 /dev/snd/seq",
            "c 116:2 /dev/snd/by-id/a"
        ]
    );
    let rules = config["linux"]["resources"]["devices"].as_array();
    let rules = rules.expect("rules");
    let rule = json!({"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"});
    assert!(rules.contains(&rule), "{rules:?}");
    assert_eq!(rules[0]["allow"], json!(false));
    // The same path twice: the last one holds.
    let twice = super::config("--device /dev/sda --device /dev/sda:w");
    assert_eq!(nodes(&twice), ["b 8:0 /dev/sda"]);
}

#[test]
fn privileged_leaves_nothing_out() {
    let config = config("--privileged");
    assert_eq!(nodes(&config), ["c 1:3 /dev/null", "b 8:0 /dev/sda"]);
    let linux = &config["linux"];
    let all = json!([{"allow": true, "type": "a", "access": "rwm"}]);
    assert_eq!(linux["resources"]["devices"], all);
    assert_eq!(linux["seccomp"], Value::Null);
    for hidden in ["maskedPaths", "readonlyPaths"] {
        assert_eq!(linux[hidden], json!([]), "{hidden}");
    }
    let process = &config["process"];
    assert_eq!(process["noNewPrivileges"], json!(false));
    let bounding = process["capabilities"]["bounding"].as_array();
    assert_eq!(bounding.map(Vec::len), Some(caps::all().len()));
    let mounts = config["mounts"].as_array().expect("mounts");
    for place in ["/sys", "/sys/fs/cgroup"] {
        let mount = mounts.iter().find(|it| it["destination"] == place);
        let options = &mount.expect("a mount")["options"];
        assert!(!options.to_string().contains("\"ro\""), "{options}");
    }
    let kept = super::config("--privileged --cap-drop SYS_ADMIN --security-opt no-new-privileges");
    let bounding = &kept["process"]["capabilities"]["bounding"];
    assert!(
        !bounding.to_string().contains("CAP_SYS_ADMIN"),
        "{bounding}"
    );
    assert_eq!(kept["process"]["noNewPrivileges"], json!(true));
}

#[test]
fn labels_are_annotations() {
    let config = config("-l com.example.team=web --label note=a=b -l empty -l note=c");
    let wanted = json!({"com.example.team": "web", "note": "c", "empty": ""});
    assert_eq!(config["annotations"], wanted);
    assert_eq!(super::config("")["annotations"], Value::Null);
}

#[test]
fn the_long_form_of_a_mount_is_the_short_one() {
    for (long, short) in [
        ("--mount type=bind,src=./a,dst=/b,readonly", "-v ./a:/b:ro"),
        (
            "--mount type=bind,source=/a,target=/b,bind-propagation=rslave",
            "-v /a:/b:rslave",
        ),
        (
            "--mount type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700",
            "--tmpfs /t:size=1m,mode=700",
        ),
        ("--mount type=tmpfs,target=/t,ro=true", "--tmpfs /t:ro"),
        ("--mount type=tmpfs,target=/t", "--tmpfs /t"),
    ] {
        assert_eq!(config(long)["mounts"], config(short)["mounts"], "{long}");
    }
}

#[test]
fn files_of_variables_come_before_flags() {
    let flags = flags("-e B=flag --rootfs / ls").unwrap();
    let environment = |text: &str| {
        let found = SpecFacts {
            env_files: vec![("env".to_owned(), text.to_owned())],
            ..found()
        };
        environment::asked(&flags, &found).map_err(|error| error.to_string())
    };
    assert_eq!(
        environment("\u{feff}# a comment\n\n  A=1 2 \nLANG\nUNSET\r\nB=file\n"),
        Ok(["A=1 2 ", "LANG=C", "B=file", "B=flag"]
            .map(str::to_owned)
            .into())
    );
    for (text, reason) in [
        (
            "A=1\nB C=2\n",
            "--env-file env line 2: the name has a space in it",
        ),
        ("=x", "--env-file env line 1: wanted: NAME=VALUE or NAME"),
        ("A=\0", "--env-file env line 1: it has a zero byte in it"),
    ] {
        assert_eq!(environment(text), Err(reason.to_owned()), "{text:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (line, reason) in [
        ("--device /dev/none", "--device /dev/none: No such file"),
        ("--device /dev/file", "no device node"),
        ("--device sda", "an absolute path on the host"),
        (
            "--device /dev/sda:/etc/sda",
            "one below /dev in the container",
        ),
        (
            "--device /dev/sda:/dev/../x",
            "one below /dev in the container",
        ),
        ("--device /dev/sda:/dev/x:q", "ACCESS of r, w and m"),
        (
            "--userns auto --device /dev/sda:/dev/xvda",
            "leave the second path out",
        ),
        ("--label =x", "--label =x: wanted: KEY=VALUE or KEY"),
        ("--mount type=volume,source=a,target=/b", "no named volumes"),
        (
            "--mount type=bind,target=/b",
            "wanted: type=bind,source=PATH",
        ),
        (
            "--mount type=bind,source=/a,target=/b,tmpfs-size=1m",
            "wanted: type=bind",
        ),
        ("--mount type=tmpfs,target=/b,nocopy", "\"nocopy\""),
        ("--mount source=/a,target=/b", "wanted: type=bind"),
        (
            "--mount type=bind,source=/a,target=b",
            "an absolute path in the container",
        ),
        (
            "--tmpfs /b --mount type=tmpfs,target=/b",
            "two mounts at one path",
        ),
    ] {
        let line = format!("{line} --rootfs / ls");
        let compiled = flags(&line).map_err(|error| error.to_string());
        let compiled = compiled.and_then(|flags| {
            compile(&flags, &found()).map_err(|error| agent_model::text::error_line(&error))
        });
        let said = compiled.expect_err(&line);
        assert!(said.contains(reason), "{line}: {said}");
    }
}
