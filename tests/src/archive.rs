//! Archives of images, made by hand.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::program::program;

/// One entry of a layer, with the name that is given: also one that no well-meaning program would write.
#[derive(Clone)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub kind: EntryType,
    pub link: &'a str,
    pub bytes: &'a [u8],
    pub mode: u32,
    pub owner: (u64, u64),
    pub device: (u32, u32),
    /// As the header says it; None: what there is.
    pub size: Option<u64>,
}

const NONE: Entry<'_> = Entry {
    name: "",
    kind: EntryType::Regular,
    link: "",
    bytes: b"",
    mode: 0o755,
    owner: (0, 0),
    device: (0, 0),
    size: None,
};

pub fn file<'a>(name: &'a str, bytes: &'a [u8]) -> Entry<'a> {
    Entry {
        name,
        bytes,
        ..NONE
    }
}

pub fn directory(name: &str) -> Entry<'_> {
    Entry {
        name,
        kind: EntryType::Directory,
        ..NONE
    }
}

pub fn symbolic_link<'a>(name: &'a str, link: &'a str) -> Entry<'a> {
    Entry {
        name,
        link,
        kind: EntryType::Symlink,
        ..NONE
    }
}

pub fn hard_link<'a>(name: &'a str, link: &'a str) -> Entry<'a> {
    Entry {
        kind: EntryType::Link,
        ..symbolic_link(name, link)
    }
}

pub fn device(name: &str, major: u32, minor: u32) -> Entry<'_> {
    Entry {
        name,
        kind: EntryType::Char,
        mode: 0o666,
        device: (major, minor),
        ..NONE
    }
}

/// A layer: a tar archive.
///
/// # Panics
/// Where a name is longer than a header has room for.
pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        let raw = header.as_gnu_mut().expect("it is a GNU header");
        raw.name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        raw.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(1_000_000_000);
        header
            .set_device_major(entry.device.0)
            .expect("a GNU header");
        header
            .set_device_minor(entry.device.1)
            .expect("a GNU header");
        header.set_size(entry.size.unwrap_or(entry.bytes.len() as u64));
        header.set_cksum();
        tar.append(&header, entry.bytes).expect("memory");
    }
    tar.into_inner().expect("memory")
}

/// What `docker save` writes of an image with these layers, the lowest first.
pub fn saved(layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    saved_as("local/made:1", layers, config)
}

/// Likewise, of an image with this name.
pub fn saved_as(name: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len())
        .map(|it| format!("{it}/layer.tar"))
        .collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": names}]);
    let config = json!({"architecture": "amd64", "os": "linux", "config": config});
    let mut files = vec![
        ("config.json".to_owned(), config.to_string().into_bytes()),
        (
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ),
    ];
    files.extend(names.into_iter().zip(layers.iter().cloned()));
    plain(&files)
}

/// An OCI layout of an image with these layers, each compressed.
pub fn layout(layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let mut files = Vec::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = format!("{:064x}", files.len() + 1);
        let descriptor = json!({"digest": format!("sha256:{digest}"), "size": bytes.len()});
        files.push((format!("blobs/sha256/{digest}"), bytes));
        descriptor
    };
    let layers: Vec<Value> = layers.iter().map(|layer| blob(gzip(layer))).collect();
    let config = blob(json!({"config": config}).to_string().into_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let mut image = blob(manifest.to_string().into_bytes());
    image["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    image["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut foreign = blob(b"no image of this machine's".to_vec());
    foreign["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let mut index = blob(
        json!({"manifests": [foreign, image]})
            .to_string()
            .into_bytes(),
    );
    index["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    index["annotations"] = json!({"org.opencontainers.image.ref.name": "made:2"});
    files.push((
        "index.json".to_owned(),
        json!({"manifests": [index]}).to_string().into_bytes(),
    ));
    files.push((
        "oci-layout".to_owned(),
        b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec(),
    ));
    plain(&files)
}

fn plain(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<Entry<'_>> = files
        .iter()
        .map(|(name, bytes)| file(name, bytes))
        .collect();
    layer(&entries)
}

/// Compressed.
///
/// # Panics
/// Never: it is memory.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_as(bytes, Compression::fast())
}

/// Likewise, as small as it gets.
///
/// # Panics
/// Never.
#[must_use]
pub fn gzip_small(bytes: &[u8]) -> Vec<u8> {
    gzip_as(bytes, Compression::best())
}

/// Compressed, in one frame.
#[must_use]
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn gzip_as(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), level);
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

/// A layer with a shell, `/bin/sh`, and other commands of busybox.
///
/// # Panics
/// Where there is no busybox.
pub fn shell() -> Vec<u8> {
    let busybox = fs::read(program("busybox")).expect("busybox");
    let mut entries = vec![directory("bin"), file("bin/busybox", &busybox)];
    let names = [
        "sh", "cat", "ls", "stat", "touch", "id", "env", "pwd", "dd", "readlink",
    ];
    let paths: Vec<String> = names.iter().map(|name| format!("bin/{name}")).collect();
    entries.extend(paths.iter().map(|path| symbolic_link(path, "busybox")));
    layer(&entries)
}

/// Writes it to a file of the directory, whose path comes back.
///
/// # Panics
/// Where it cannot be written.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}
