//! The table of the records that engines and their launchers leave: one row for each path.

use std::path::{Path, PathBuf};

use agent_registry::claim::Claim;
use agent_registry::path::Runtime;

use super::evidence::{RecordContents, RecordForm};
use super::file;

/// The most directories that are searched for a record whose directory may have any name.
const NAMED_AT_MOST: usize = 64;

/// The directory that a row's path is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BaseDirectory {
    /// `/run` for root, `/run/user/UID` for another user.
    Run,
    /// dockerd's `--exec-root` for root, `/run/user/UID/docker` for another user.
    Docker,
    /// A directory of root's records only.
    System(&'static str),
}

type RecordRow = (fn(Runtime) -> bool, BaseDirectory, &'static str, RecordForm);

const SHIM: RecordForm = RecordForm::Bundle { pid: "init.pid" };
const CONMON: RecordForm = RecordForm::Bundle { pid: "pidfile" };

/// The records. `{id}` stands for the container's id, `{any}` for any directory's name.
#[rustfmt::skip]
const ROWS: [RecordRow; 12] = [
    // containerd: runtime/v2/bundle.go. dockerd starts its own one unless the system has one.
    (is_oci,    BaseDirectory::Docker,             "containerd/daemon/io.containerd.runtime.v2.task/moby/{id}/config.json", SHIM),
    (is_oci,    BaseDirectory::Run,                "containerd/io.containerd.runtime.v2.task/{any}/{id}/config.json",       SHIM),
    // podman and CRI-O: containers/storage, ContainerRunDirectory.
    (is_oci,    BaseDirectory::Run,                "containers/storage/overlay-containers/{id}/userdata/config.json",       CONMON),
    (is_oci,    BaseDirectory::Run,                "containers/storage/vfs-containers/{id}/userdata/config.json",           CONMON),
    (is_oci,    BaseDirectory::Run,                "containers/overlay-containers/{id}/userdata/config.json",               CONMON),
    (is_oci,    BaseDirectory::Run,                "containers/vfs-containers/{id}/userdata/config.json",                   CONMON),
    // The runtimes that these engines start: runc's libcontainer/state_linux.go, crun's libcrun/status.c.
    (is_oci,    BaseDirectory::Docker,             "runtime-runc/moby/{id}/state.json",                                     RecordForm::Runc),
    (is_oci,    BaseDirectory::Run,                "containerd/runc/{any}/{id}/state.json",                                 RecordForm::Runc),
    (is_oci,    BaseDirectory::Run,                "runc/{id}/state.json",                                                  RecordForm::Runc),
    (is_oci,    BaseDirectory::Run,                "crun/{id}/status",                                                      RecordForm::Crun),
    // systemd: src/machine/machine.c, machine_save.
    (is_nspawn, BaseDirectory::System("run"),      "systemd/machines/{id}",                                                 RecordForm::Machine),
    (is_lxc,    BaseDirectory::System("var/lib"),  "lxc/{id}/config",                                                       RecordForm::Lxc),
];

fn is_oci(runtime: Runtime) -> bool {
    use Runtime::{Containerd, Cri, Crio, Docker, Podman, Unknown};
    matches!(runtime, Docker | Containerd | Crio | Podman | Cri | Unknown)
}

fn is_nspawn(runtime: Runtime) -> bool {
    runtime == Runtime::Nspawn
}

fn is_lxc(runtime: Runtime) -> bool {
    runtime == Runtime::Lxc
}

/// A path at which a record of one container may be.
#[derive(Debug)]
pub(super) struct RecordPath {
    base: PathBuf,
    path: PathBuf,
    form: RecordForm,
    user: u32,
}

/// All paths at which `user`'s records on the claimed container may be; `root` is the root of the host's files.
pub(super) fn of(root: &Path, docker: &Path, claim: &Claim, user: u32) -> Vec<RecordPath> {
    let rows = ROWS.iter().filter(|(is_for, ..)| is_for(claim.runtime));
    let places = rows.filter_map(|(_, base, path, form)| {
        let base = directory(root, docker, *base, user)?;
        let path = path.replace("{id}", &claim.id);
        let paths = match path.split_once("{any}/") {
            None => vec![PathBuf::from(path)],
            Some((above, below)) => named(&base, above, user, below),
        };
        let place = move |path| RecordPath {
            base: base.clone(),
            path,
            form: *form,
            user,
        };
        Some(paths.into_iter().map(place))
    });
    places.flatten().collect()
}

fn directory(root: &Path, docker: &Path, base: BaseDirectory, user: u32) -> Option<PathBuf> {
    let own = || root.join("run/user").join(user.to_string());
    match (base, user) {
        (BaseDirectory::Run, 0) => Some(root.join("run")),
        (BaseDirectory::Run, _) => Some(own()),
        (BaseDirectory::Docker, 0) => Some(root.join(docker.strip_prefix("/").unwrap_or(docker))),
        (BaseDirectory::Docker, _) => Some(own().join("docker")),
        (BaseDirectory::System(path), 0) => Some(root.join(path)),
        (BaseDirectory::System(_), _) => None,
    }
}

/// The paths with each directory below `above` in place of `{any}`.
fn named(base: &Path, above: &str, user: u32, below: &str) -> Vec<PathBuf> {
    let above = Path::new(above);
    let names = file::names(base, above, user).into_iter().flatten();
    let names = names.take(NAMED_AT_MOST);
    names.map(|name| above.join(name).join(below)).collect()
}

impl RecordPath {
    /// The record's path, if it exists and cannot be read.
    pub(super) fn unread(&self) -> Option<PathBuf> {
        match file::read(&self.base, &self.path, self.user) {
            Some(_) => None,
            None => file::is_there(self.base.join(&self.path)),
        }
    }

    /// The record's contents; `None` if there is no record that only its owner can have written.
    pub(super) fn read(&self) -> Option<RecordContents> {
        let record = file::read(&self.base, &self.path, self.user)?;
        let beside =
            |name: &str| file::read(&self.base, &self.path.with_file_name(name), self.user);
        RecordContents::of(self.form, &record, beside, self.user)
    }
}
