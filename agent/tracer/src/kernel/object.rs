//! The BPF object that the build made: creates its maps in the kernel, and prepares its programs for loading.
//!
//! aya's own loader parses the type information of the whole kernel at each start, which takes 50 ms and 50 MB. This
//! module gets by with the few names that [`super::btf`] looks up.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_ebpf::{CAST, FREQUENT_BYTES};
use agent_host::owner::Owner;
use aya::maps::{Map, MapData, MapError};
use aya::pin::PinError;
use aya_obj::generated::{
    BPF_ALU64, BPF_CALL, BPF_JMP, BPF_MOV, BPF_PSEUDO_KFUNC_CALL, BPF_X, bpf_insn, bpf_map_type,
};
use aya_obj::relocation::EbpfRelocationError;
use aya_obj::{EbpfSectionKind, ParseError};

use super::config::KernelFacts;

/// The bytes of the object.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/agent-ebpf"));

/// The maps that are pinned, so that a later process of the agent continues with their contents.
const PINNED: &[&str] = &[
    "ACTIVE",
    "BASELINES",
    "BELOW",
    "COUNTS",
    "FIRSTS",
    "INITS",
    "KILLS",
    "OOM_KILLS",
];

/// Why the object's maps cannot be created, or its programs prepared.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("the BPF object is broken")]
    Parse(#[from] ParseError),
    #[error("the BPF object is broken")]
    Relocation(#[from] EbpfRelocationError),
    #[error("the BPF object has no map {0}")]
    NoMap(&'static str),
    #[error("a BPF map cannot be made")]
    Map(#[from] MapError),
    #[error("the BPF map {0} cannot be filled")]
    Constants(String, #[source] io::Error),
    #[error(
        "--pin-path {0}: maps cannot be pinned here; pass a directory on a bpffs (mount -t bpf bpf /sys/fs/bpf)"
    )]
    PinDirectory(PathBuf, #[source] io::Error),
    #[error("{0}: pinned by another version of the agent, with other counters; remove it")]
    StalePin(PathBuf, #[source] io::Error),
    #[error("{0}: a link, or pinned by another user; remove it, or pass another --pin-path")]
    ForeignPin(PathBuf),
    #[error("the BPF map cannot be pinned at {0}")]
    Pin(PathBuf, #[source] PinError),
}

impl ObjectError {
    /// Whether the kernel does not permit this process to create maps.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Map(MapError::CreateError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The object: its maps are in the kernel, its programs are not loaded yet.
pub struct BpfObject {
    maps: HashMap<String, Map>,
    /// The rings of frequent records.
    pub frequent: Vec<OwnedFd>,
    /// A descriptor of each map, by its name.
    pub descriptors: Vec<(String, OwnedFd)>,
    programs: HashMap<String, Code>,
}

/// A program that is not loaded yet.
pub struct Code {
    pub name: CString,
    pub license: CString,
    pub instructions: Vec<bpf_insn>,
}

impl BpfObject {
    /// Creates the maps, or opens those that an earlier process pinned in the directory `pins`. New maps are pinned
    /// there.
    ///
    /// # Errors
    /// The kernel refuses a map, or a map cannot be pinned.
    pub fn new(facts: &KernelFacts, pins: Option<&Path>) -> Result<Self, ObjectError> {
        let config = &facts.config;
        if let Some(directory) = pins {
            make_pin_directory(directory)
                .map_err(|error| ObjectError::PinDirectory(directory.to_owned(), error))?;
        }
        let mut object = aya_obj::Object::parse(OBJECT)?;
        let globals = [("CONFIG", (agent_sys::as_bytes(config), true))];
        object.patch_map_data(globals.into_iter().collect())?;
        let definitions: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
        let mut maps = HashMap::new();
        let mut descriptors = Vec::new();
        let rings = make_rings(config.rings_mask as u32 + 1)?;
        for (name, definition) in &definitions {
            let data = match name.as_str() {
                FREQUENT => make_array_of(&rings, definition)?,
                _ => make(name, definition, pins)?,
            };
            descriptors.push((name.clone(), descriptor(&data)?));
            maps.insert(name.clone(), Map::from_map_data(data)?);
        }
        // The programs refer to maps by these descriptors. `descriptors` keeps them open until the programs are loaded.
        let named = descriptors.iter().zip(&definitions);
        let named = named
            .map(|((name, descriptor), (_, map))| (name.as_str(), descriptor.as_raw_fd(), map));
        let text: HashSet<usize> = object.functions.keys().map(|(text, _)| *text).collect();
        object.relocate_maps(named, &text)?;
        object.relocate_calls(&text)?;
        for (number, ring) in rings.iter().enumerate() {
            descriptors.push((format!("{FREQUENT}_{number}"), descriptor(ring)?));
        }
        let frequent = rings.iter().map(descriptor);
        let frequent = frequent.collect::<Result<_, _>>()?;
        Ok(Self {
            maps,
            frequent,
            descriptors,
            programs: programs(object, facts.cast),
        })
    }

    /// Takes the ring `name` out of the object.
    ///
    /// # Errors
    /// There is no ring of this name, or the process has no descriptor left.
    pub fn take_ring(&mut self, name: &'static str) -> Result<OwnedFd, ObjectError> {
        let Map::RingBuf(ring) = self.take(name)? else {
            return Err(ObjectError::NoMap(name));
        };
        let descriptor = ring.fd().as_fd().try_clone_to_owned();
        Ok(descriptor.map_err(MapError::from)?)
    }

    /// # Errors
    /// There is no map of this name.
    fn take(&mut self, name: &'static str) -> Result<Map, ObjectError> {
        self.maps.remove(name).ok_or(ObjectError::NoMap(name))
    }

    /// Takes the map `name` out of the object.
    ///
    /// # Errors
    /// There is no map of this name, or it is of another type.
    pub fn take_map<T: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &'static str,
    ) -> Result<T, ObjectError> {
        Ok(T::try_from(self.take(name)?)?)
    }

    /// The code of a program.
    pub fn code(&self, program: &str) -> Option<&Code> {
        self.programs.get(program)
    }
}

fn programs(object: aya_obj::Object, cast: Option<u32>) -> HashMap<String, Code> {
    let mut functions = object.functions;
    let programs = object.programs.into_iter().filter_map(|(name, program)| {
        let mut instructions = functions.remove(&program.function_key())?.instructions;
        set_casts(&mut instructions, cast);
        let code = Code {
            name: CString::new(name.as_str()).ok()?,
            instructions,
            license: program.license,
        };
        Some((name, code))
    });
    programs.collect()
}

/// Replaces each call of [`CAST`] by one of `bpf_rdonly_cast`, whose BTF id is `cast`. If the kernel does not have that
/// function, a move of the first argument into the result's register takes its place.
fn set_casts(instructions: &mut [bpf_insn], cast: Option<u32>) {
    const CALL: u8 = (BPF_JMP | BPF_CALL) as u8;
    const MOVE: u8 = (BPF_ALU64 | BPF_MOV | BPF_X) as u8;
    let is_cast = |it: &&mut bpf_insn| it.code == CALL && it.imm == CAST;
    for instruction in instructions.iter_mut().filter(is_cast) {
        match cast {
            Some(id) => {
                instruction.set_src_reg(BPF_PSEUDO_KFUNC_CALL as u8);
                instruction.imm = id.cast_signed();
            }
            None => {
                instruction.code = MOVE;
                instruction.set_dst_reg(0);
                instruction.set_src_reg(1);
                instruction.imm = 0;
            }
        }
    }
}

fn descriptor(map: &MapData) -> Result<OwnedFd, ObjectError> {
    let descriptor = map.fd().as_fd().try_clone_to_owned();
    Ok(descriptor.map_err(MapError::from)?)
}

/// The array of the rings of frequent records. aya has no type for an array of maps in the programs' source.
const FREQUENT: &str = "FREQUENT";

fn make_rings(number: u32) -> Result<Vec<MapData>, ObjectError> {
    let kind = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    let ring = aya_obj::Map::new_from_params(kind, 0, 0, FREQUENT_BYTES / number, 0);
    let rings = (0..number).map(|_| MapData::create(ring.clone(), FREQUENT, None));
    Ok(rings.collect::<Result<_, _>>()?)
}

fn make_array_of(rings: &[MapData], definition: &aya_obj::Map) -> Result<MapData, ObjectError> {
    let failed = |error| ObjectError::Constants(FREQUENT.to_owned(), error);
    let first = rings.first().ok_or(ObjectError::NoMap(FREQUENT))?;
    let array = agent_sys::bpf::make_array_of_maps(first.fd().as_fd(), definition.max_entries());
    let array = array.map_err(failed)?;
    for (at, ring) in (0..).zip(rings) {
        agent_sys::bpf::set_map(array.as_fd(), at, ring).map_err(failed)?;
    }
    Ok(MapData::from_fd(array)?)
}

/// Opens the pinned map of this name if there is one of the same layout, else creates the map.
fn make(name: &str, map: &aya_obj::Map, pins: Option<&Path>) -> Result<MapData, ObjectError> {
    let pin = pins
        .filter(|_| PINNED.contains(&name))
        .map(|it| it.join(name));
    if let Some(pin) = &pin
        && is_ours(pin)?
        && let Ok(data) = MapData::from_pin(pin)
    {
        let info = data.info()?;
        if (info.key_size(), info.value_size()) == (map.key_size(), map.value_size()) {
            return Ok(data);
        }
        tracing::warn!(
            "--pin-path: {} was pinned by another version of the agent, with other counters: its counts are dropped",
            pin.display()
        );
        std::fs::remove_file(pin).map_err(|error| ObjectError::StalePin(pin.clone(), error))?;
    }
    let data = MapData::create(map.clone(), name, None)?;
    if let Some(pin) = pin {
        data.pin(&pin)
            .map_err(|error| ObjectError::Pin(pin, error))?;
    }
    let constants = |error| ObjectError::Constants(name.to_owned(), error);
    if !map.data().is_empty() {
        agent_sys::bpf::set_first(&data, map.data()).map_err(constants)?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        agent_sys::bpf::freeze(&data).map_err(constants)?;
    }
    Ok(data)
}

/// Whether there is a pin of this user.
///
/// # Errors
/// There is a link, or a pin of another user: their contents are never taken for this user's counts.
fn is_ours(pin: &Path) -> Result<bool, ObjectError> {
    match std::fs::symlink_metadata(pin) {
        Ok(found) if found.is_file() && found.uid() == user() => Ok(true),
        Ok(_) => Err(ObjectError::ForeignPin(pin.to_owned())),
        Err(_) => Ok(false),
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Creates the directory for the pins.
///
/// # Errors
/// It is not on a bpffs, is a link, or others may change it.
fn make_pin_directory(directory: &Path) -> io::Result<()> {
    /// `include/uapi/linux/magic.h`
    const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
    let directory = std::path::absolute(directory)?;
    let there = directory.ancestors().find(|it| it.exists());
    let there = rustix::fs::statfs(there.unwrap_or(&directory))?;
    if there.f_type as u32 != BPF_FS_MAGIC {
        return Err(io::Error::other("this is no bpffs"));
    }
    std::fs::create_dir_all(&directory)?;
    let made = std::fs::symlink_metadata(&directory)?;
    if !Owner::caller().is_safe_in_own(&made) {
        return Err(io::Error::other(
            "it is a link, or others may change it; pass a directory of this user's",
        ));
    }
    Ok(())
}
