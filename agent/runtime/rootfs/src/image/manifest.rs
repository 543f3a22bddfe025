//! Finds the files of an archive that are the image, by the `manifest.json` of `docker save` or by the OCI image layout
//! (image-spec, `image-layout.md`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agent_model::text;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::archive::Archive;
use super::entries::{Bad, relative};
use crate::source::ImageConfig;

/// The most bytes of a manifest, an index or a configuration.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The most bytes of an image's configuration for its command. A container's record contains them, and has at most 1
/// MiB; the rest is for everything else.
pub const MOST_CONFIG_BYTES: usize = 512 * 1024;

/// The most layers of an image. Docker's own limit is 127, the kernel's 500.
const MOST_LAYERS: usize = 256;

/// How deep indexes may nest, and the most images and indexes in all of them.
const DEEPEST: usize = 4;
const MOST_LISTED: usize = 64;

/// The most images that an error names.
const MOST_NAMED: usize = 8;

const MANIFEST: &str = "manifest.json";
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";

/// The annotations in which containerd and other programs write an image's name.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// An image in an archive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FoundImage {
    /// The image's name, cut where it is long; `None` where the archive has none.
    pub name: Option<String>,
    pub config: ImageConfig,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer's file in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub path: PathBuf,
    /// The number of bytes, if the manifest has it.
    pub size: Option<u64>,
}

/// Finds the image in an archive.
///
/// # Errors
/// There is no image for this machine, or more than one.
pub(super) fn find(archive: &Archive) -> Result<FoundImage, Bad> {
    let found = if archive.has(Path::new(MANIFEST)) {
        saved_by_docker(archive)?
    } else if archive.has(Path::new(LAYOUT)) && archive.has(Path::new(INDEX)) {
        in_layout(archive)?
    } else {
        return Err(Bad::whole(
            "has neither manifest.json nor oci-layout; wanted what `docker save` writes, or an OCI layout",
        ));
    };
    if found.layers.len() > MOST_LAYERS {
        let layers = found.layers.len();
        return Err(Bad::whole(format!(
            "{layers} layers; wanted at most {MOST_LAYERS}"
        )));
    }
    Ok(found)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

fn saved_by_docker(archive: &Archive) -> Result<FoundImage, Bad> {
    let images: Vec<Saved> = json(archive, Path::new(MANIFEST))?;
    let name = |image: &Saved| {
        let first = image.repo_tags.iter().flatten().next();
        first.map(|name| text::cut(name).to_owned())
    };
    let image = match &images[..] {
        [image] => image,
        [] => return Err(Bad::at(Path::new(MANIFEST), "there is no image in it")),
        several => {
            let names = several
                .iter()
                .map(|it| name(it).unwrap_or("one without a name".into()));
            return Err(several_images(names));
        }
    };
    let inside = |path: &PathBuf| {
        relative(path.as_os_str()).map_err(|what| Bad::at(Path::new(MANIFEST), what))
    };
    Ok(FoundImage {
        name: name(image),
        config: configuration(archive, &inside(&image.config)?)?,
        layers: image
            .layers
            .iter()
            .map(|path| {
                Ok(Layer {
                    path: inside(path)?,
                    size: None,
                })
            })
            .collect::<Result<_, Bad>>()?,
    })
}

fn several_images(names: impl Iterator<Item = String>) -> Bad {
    let mut names = names.collect::<Vec<_>>();
    if let Some(more) = names.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        names.truncate(MOST_NAMED);
        names.push(format!("{more} more"));
    }
    let names = names.join(", ");
    Bad::whole(format!("holds several images ({names}); save one"))
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
struct Descriptor {
    digest: String,
    size: Option<u64>,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// A file of a layout: an image, or an index that lists other files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Image(Box<Manifest>),
    Index(Index),
}

/// A manifest for this machine.
struct ImageCandidate {
    name: Option<String>,
    digest: String,
    manifest: Manifest,
}

/// The images for this machine in an index, and in the indexes that it lists.
struct ImageCandidates<'a> {
    archive: &'a Archive<'a>,
    found: Vec<ImageCandidate>,
    /// The number of files that may still be read.
    left: usize,
}

impl ImageCandidates<'_> {
    fn add(&mut self, index: &Index, name: Option<&str>, depth: usize) -> Result<(), Bad> {
        for one in &index.manifests {
            if !one.is_for_this_machine() {
                continue;
            }
            let name = one.name().or_else(|| name.map(str::to_owned));
            let path = blob(&one.digest)?;
            // The same image by another name.
            if let Some(same) = self.found.iter_mut().find(|it| it.digest == one.digest) {
                same.name = same.name.take().or(name);
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                let what = format!("lists more than {MOST_LISTED} images and indexes");
                Bad::at(&path, what)
            })?;
            match json(self.archive, &path)? {
                Listed::Image(manifest) => self.found.push(ImageCandidate {
                    name,
                    digest: one.digest.clone(),
                    manifest: *manifest,
                }),
                Listed::Index(_) if depth >= DEEPEST => {
                    let what = format!("more than {DEEPEST} nested indexes");
                    return Err(Bad::at(&path, what));
                }
                Listed::Index(index) => self.add(&index, name.as_deref(), depth + 1)?,
            }
        }
        Ok(())
    }
}

fn in_layout(archive: &Archive) -> Result<FoundImage, Bad> {
    let index: Index = json(archive, Path::new(INDEX))?;
    let mut candidates = ImageCandidates {
        archive,
        found: Vec::new(),
        left: MOST_LISTED,
    };
    candidates.add(&index, None, 1)?;
    let found = candidates.found;
    if found.len() > 1 {
        let names = found.into_iter().map(|it| it.name.unwrap_or(it.digest));
        return Err(several_images(names));
    }
    let Some(ImageCandidate { name, manifest, .. }) = found.into_iter().next() else {
        let what = format!("no image for linux/{}", architecture());
        return Err(Bad::at(Path::new(INDEX), what));
    };
    let layers = manifest.layers.iter().map(|layer| {
        Ok(Layer {
            path: blob(&layer.digest)?,
            size: layer.size,
        })
    });
    Ok(FoundImage {
        name,
        config: configuration(archive, &blob(&manifest.config.digest)?)?,
        layers: layers.collect::<Result<_, Bad>>()?,
    })
}

impl Descriptor {
    fn is_for_this_machine(&self) -> bool {
        self.platform
            .as_ref()
            .is_none_or(|it| it.os == "linux" && it.architecture == architecture())
    }

    fn name(&self) -> Option<String> {
        let annotations = self.annotations.as_ref()?;
        let name = NAMES.iter().find_map(|key| annotations.get(*key));
        name.map(|name| text::cut(name).to_owned())
    }
}

/// Returns Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the path of the file with a digest.
fn blob(digest: &str) -> Result<PathBuf, Bad> {
    let parts = digest.split_once(':').filter(|(algorithm, hash)| {
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric());
        plain(algorithm) && plain(hash)
    });
    let (algorithm, hash) = parts.ok_or_else(|| {
        Bad::whole(format!(
            "{digest:?} is no digest; wanted one like sha256:0123…"
        ))
    })?;
    Ok(Path::new("blobs").join(algorithm).join(hash))
}

#[derive(Deserialize)]
struct Configuration {
    config: Option<ImageSettings>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageSettings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<PathBuf>,
    user: Option<String>,
    stop_signal: Option<String>,
}

impl ImageSettings {
    /// Returns the number of bytes of the settings.
    fn bytes(&self) -> usize {
        let lists = [&self.entrypoint, &self.cmd, &self.env];
        let words = lists.into_iter().flatten().flatten().map(String::len);
        let directory = self.working_dir.iter().map(|it| it.as_os_str().len());
        let user = self.user.iter().map(String::len);
        words.chain(directory).chain(user).sum()
    }
}

fn configuration(archive: &Archive, path: &Path) -> Result<ImageConfig, Bad> {
    let configuration: Configuration = json(archive, path)?;
    let settings = configuration.config.unwrap_or_default();
    let said = settings.bytes();
    if said > MOST_CONFIG_BYTES {
        let what = format!(
            "{said} bytes of entrypoint, command, variables, directory and user; wanted at most {MOST_CONFIG_BYTES}"
        );
        return Err(Bad::at(path, what));
    }
    let stop_signal = settings.stop_signal.filter(|it| !it.is_empty());
    let stop_signal = stop_signal.map(|text| {
        let said = |reason| Bad::at(path, format!("StopSignal {text:?}: {reason}"));
        text.parse().map_err(said)
    });
    Ok(ImageConfig {
        stop_signal: stop_signal.transpose()?,
        entrypoint: settings.entrypoint.unwrap_or_default(),
        command: settings.cmd.unwrap_or_default(),
        environment: settings.env.unwrap_or_default(),
        directory: settings.working_dir.filter(|it| !it.as_os_str().is_empty()),
        user: settings.user.filter(|it| !it.is_empty()),
    })
}

fn json<T: DeserializeOwned>(archive: &Archive, path: &Path) -> Result<T, Bad> {
    let bytes = archive.bytes(path, LARGEST)?;
    serde_json::from_slice(&bytes).map_err(|error| Bad::at(path, error))
}
