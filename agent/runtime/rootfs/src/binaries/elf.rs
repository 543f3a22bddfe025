//! Reads what a loader needs of an ELF file: the headers of elf(5), and the dynamic section of the System V ABI.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::read::{ReadCache, ReadRef};
use object::{Endian, Endianness};

/// The most libraries that one file may need. No real file needs as many.
const MOST_NEEDED: usize = 4096;

/// The longest string of the dynamic section, in bytes. The crate's cache accepts at most 4096.
const LONGEST: u64 = 64 * 1024;

/// The most bytes of a file that are read to find out what it needs. The file's headers, which may lie, say how many to
/// read. The kernel accepts 64 KiB of program headers.
const MOST_READ: u64 = 1024 * 1024;

/// The architecture that a program and its libraries have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElfTarget {
    pub bits: u8,
    pub big_endian: bool,
    /// `EM_*`
    pub machine: u16,
}

/// The parts of an ELF file that its loader uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ElfFile {
    pub kind: ElfTarget,
    /// The path of the loader (`PT_INTERP`), if the program has one.
    pub interpreter: Option<PathBuf>,
    /// The names of the libraries that the file needs (`DT_NEEDED`).
    pub needed: Vec<OsString>,
    /// The name by which other files need this one (`DT_SONAME`).
    pub name: Option<OsString>,
    /// `DT_RPATH`, as it is written.
    pub rpath: Option<OsString>,
    /// `DT_RUNPATH`, as it is written.
    pub runpath: Option<OsString>,
    /// Whether the loader ignores its default directories for this file's libraries (`DF_1_NODEFLIB`).
    pub own_directories_only: bool,
}

impl ElfFile {
    /// Returns the number of bytes of all names in the file.
    pub(super) fn bytes(&self) -> usize {
        let interpreter = self.interpreter.as_deref().map(Path::as_os_str);
        let single = [&self.name, &self.rpath, &self.runpath].map(Option::as_deref);
        let needed = self.needed.iter().map(|it| Some(it.as_os_str()));
        let all = single.into_iter().chain([interpreter]).chain(needed);
        all.flatten().map(OsStr::len).sum()
    }
}

/// Reads an ELF file; `None` where it is not one.
///
/// # Errors
/// The file is damaged. The error says what is wrong.
pub(super) fn read(file: &File) -> Result<Option<ElfFile>, &'static str> {
    let cache = ReadCache::new(file);
    let left = Cell::new(MOST_READ);
    let data = BoundedBytes {
        cache: &cache,
        left: &left,
    };
    let Ok(identity) = data.read_bytes_at(0, elf::ELFMAG.len() as u64 + 1) else {
        return Ok(None);
    };
    if identity[..elf::ELFMAG.len()] != elf::ELFMAG {
        return Ok(None);
    }
    let class = identity[elf::ELFMAG.len()];
    if class == elf::ELFCLASS64 {
        parse::<FileHeader64<Endianness>, _>(data, 64).map(Some)
    } else if class == elf::ELFCLASS32 {
        parse::<FileHeader32<Endianness>, _>(data, 32).map(Some)
    } else {
        Err("an ELF file of neither 32 nor 64 bits")
    }
}

/// A file of which at most `left` more bytes are read.
#[derive(Clone, Copy)]
struct BoundedBytes<'a> {
    cache: &'a ReadCache<&'a File>,
    left: &'a Cell<u64>,
}

impl BoundedBytes<'_> {
    fn spend(self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for BoundedBytes<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.spend(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        // The cache reads at most 4096 bytes.
        let bytes = self.cache.read_bytes_at_until(range, delimiter)?;
        self.spend(bytes.len() as u64 + 1)?;
        Ok(bytes)
    }
}

fn parse<'data, Elf, R>(data: R, bits: u8) -> Result<ElfFile, &'static str>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    const HEADER: &str = "the ELF header is damaged";
    let header = Elf::parse(data).map_err(|_| HEADER)?;
    let endian = header.endian().map_err(|_| HEADER)?;
    let segments = header
        .program_headers(endian, data)
        .map_err(|_| "the program headers are damaged")?;
    let mut object = ElfFile {
        kind: ElfTarget {
            bits,
            big_endian: endian.is_big_endian(),
            machine: header.e_machine(endian),
        },
        interpreter: None,
        needed: Vec::new(),
        name: None,
        rpath: None,
        runpath: None,
        own_directories_only: false,
    };
    for segment in segments {
        let interpreter = segment.interpreter(endian, data);
        if let Some(path) = interpreter.map_err(|_| "the name of its loader is damaged")? {
            object.interpreter = Some(OsString::from_vec(path.to_vec()).into());
        }
    }
    for segment in segments {
        let entries = segment.dynamic(endian, data);
        if let Some(entries) = entries.map_err(|_| "the dynamic section is damaged")? {
            let strings = StringTable::<Elf>::find(entries, segments, endian);
            strings.fill(&mut object, entries, endian, data)?;
        }
    }
    Ok(object)
}

/// The position of the dynamic section's strings in the file.
struct StringTable<Elf: FileHeader> {
    /// The offset of the strings; `None` where there are none, or no segment contains them.
    offset: Option<u64>,
    size: u64,
    header: std::marker::PhantomData<Elf>,
}

impl<Elf: FileHeader<Endian = Endianness>> StringTable<Elf> {
    fn find(entries: &[Elf::Dyn], segments: &[Elf::ProgramHeader], endian: Endianness) -> Self {
        let value = |tag| {
            let mut entries = until_null::<Elf>(entries, endian);
            entries.find_map(|(it, value)| (it == tag).then_some(value))
        };
        let address = value(elf::DT_STRTAB);
        let offset = address.and_then(|address| {
            segments.iter().find_map(|segment| {
                let start: u64 = segment.p_vaddr(endian).into();
                let size: u64 = segment.p_filesz(endian).into();
                let from_start = address.checked_sub(start)?;
                let loaded = segment.p_type(endian) == elf::PT_LOAD && from_start < size;
                let offset: u64 = segment.p_offset(endian).into();
                loaded.then(|| offset.checked_add(from_start))?
            })
        });
        Self {
            offset,
            size: value(elf::DT_STRSZ).unwrap_or(0),
            header: std::marker::PhantomData,
        }
    }

    fn fill<'data, R: ReadRef<'data>>(
        &self,
        object: &mut ElfFile,
        entries: &[Elf::Dyn],
        endian: Endianness,
        data: R,
    ) -> Result<(), &'static str> {
        for (tag, value) in until_null::<Elf>(entries, endian) {
            let string = || {
                self.at(value, data)
                    .ok_or("a name in the dynamic section is damaged")
            };
            match tag {
                elf::DT_NEEDED if object.needed.len() == MOST_NEEDED => {
                    return Err("it needs more libraries than any file does");
                }
                elf::DT_NEEDED => object.needed.push(string()?),
                elf::DT_SONAME => object.name = Some(string()?),
                elf::DT_RPATH => object.rpath = Some(string()?),
                elf::DT_RUNPATH => object.runpath = Some(string()?),
                elf::DT_FLAGS_1 => {
                    object.own_directories_only = value & u64::from(elf::DF_1_NODEFLIB) != 0;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn at<'data, R: ReadRef<'data>>(&self, index: u64, data: R) -> Option<OsString> {
        let left = self.size.checked_sub(index)?.min(LONGEST);
        let start = self.offset?.checked_add(index)?;
        let range = start..start.checked_add(left)?;
        let string = data.read_bytes_at_until(range, 0).ok()?;
        Some(OsString::from_vec(string.to_vec()))
    }
}

fn until_null<Elf: FileHeader<Endian = Endianness>>(
    entries: &[Elf::Dyn],
    endian: Endianness,
) -> impl Iterator<Item = (i64, u64)> {
    entries
        .iter()
        .map(move |entry| (entry.tag(endian), entry.val(endian)))
        .take_while(|(tag, _)| *tag != elf::DT_NULL)
}
