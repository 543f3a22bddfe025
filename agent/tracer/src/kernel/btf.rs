//! A reader of the kernel's type information (`Documentation/bpf/btf.rst`). It indexes only the few names that the BPF
//! programs need.

use std::collections::{HashMap, HashSet};

/// Why type information cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum BtfError {
    #[error("not BTF: {0}")]
    Malformed(&'static str),
}

const KIND_PTR: u8 = 2;
const KIND_ARRAY: u8 = 3;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_ENUM: u8 = 6;
const KIND_TYPEDEF: u8 = 8;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_ENUM64: u8 = 19;
const KIND_FUNC: u8 = 12;
const KIND_CONST: u8 = 10;
const KIND_VOLATILE: u8 = 9;
const KIND_RESTRICT: u8 = 11;
const KIND_TYPE_TAG: u8 = 18;

/// Type information, in which the types with the wanted names can be looked up.
pub struct Btf<'a> {
    data: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `data`; type 0 is `void`.
    types: Vec<u32>,
    named: HashMap<(&'static str, u8), u32>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    kind: u8,
    kind_flag: bool,
    /// The number of members, enumerators or parameters.
    count: usize,
    size_or_type: u32,
    name: u32,
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Reads `data` and remembers the structs, enums, typedefs and functions named in `wanted`.
    ///
    /// # Errors
    /// `data` is cut, or is not BTF in this machine's byte order.
    pub fn parse(data: &'a [u8], wanted: &HashSet<&'static str>) -> Result<Self, BtfError> {
        let word = |at: usize| read(data, at).ok_or(BtfError::Malformed("the header is cut"));
        if word(0)? & 0xffff != 0xeb9f {
            return Err(BtfError::Malformed("the magic number is wrong"));
        }
        let header = word(4)? as usize;
        let section = |offset: u32, length: u32| {
            let start = header.checked_add(offset as usize)?;
            data.get(start..start.checked_add(length as usize)?)
        };
        let types = section(word(8)?, word(12)?).ok_or(BtfError::Malformed("types are cut"))?;
        let strings =
            section(word(16)?, word(20)?).ok_or(BtfError::Malformed("strings are cut"))?;
        let mut btf = Self {
            data: types,
            strings,
            types: vec![0],
            named: HashMap::new(),
        };
        btf.index(wanted)?;
        Ok(btf)
    }

    fn index(&mut self, wanted: &HashSet<&'static str>) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.data.len() {
            let kind = Type::read(self.data, at).ok_or(BtfError::Malformed("a type is cut"))?;
            let id = self.types.len() as u32;
            if matches!(
                kind.kind,
                KIND_STRUCT | KIND_ENUM | KIND_ENUM64 | KIND_TYPEDEF | KIND_FUNC
            ) && let Some(name) = wanted.get(self.string(kind.name))
            {
                self.named.entry((name, kind.kind)).or_insert(id);
            }
            self.types.push(at as u32);
            at += 12
                + kind
                    .rest_len()
                    .ok_or(BtfError::Malformed("a type of unknown kind"))?;
        }
        Ok(())
    }

    fn string(&self, at: u32) -> &'a str {
        let bytes = self.strings.get(at as usize..).unwrap_or_default();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or_default();
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    }

    fn type_of(&self, id: u32) -> Option<Type<'a>> {
        if id == 0 {
            return None;
        }
        Type::read(self.data, *self.types.get(id as usize)? as usize)
    }

    /// The type that a chain of typedefs and qualifiers leads to.
    fn resolve(&self, mut id: u32) -> Option<Type<'a>> {
        // No chain in a kernel is longer; the bound ends a loop in broken data.
        for _ in 0..32 {
            let found = self.type_of(id)?;
            match found.kind {
                KIND_TYPEDEF | KIND_CONST | KIND_VOLATILE | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = found.size_or_type;
                }
                _ => return Some(found),
            }
        }
        None
    }

    fn named(&self, name: &'static str, kinds: &[u8]) -> Option<Type<'a>> {
        let id = kinds
            .iter()
            .find_map(|kind| self.named.get(&(name, *kind)))?;
        self.type_of(*id)
    }

    /// The offset in bits of a member of the struct `of`.
    pub fn bit(&self, of: &'static str, member: &str) -> Option<u32> {
        let container = self.named(of, &[KIND_STRUCT])?;
        Some(self.find_member(container, member, 0)?.0)
    }

    /// The offset in bytes of the member `path` (`a` or `a.b`) in the struct `of`.
    pub fn member(&self, of: &'static str, path: &str) -> Option<u32> {
        let mut container = self.named(of, &[KIND_STRUCT])?;
        let mut offset = 0;
        for name in path.split('.') {
            let (bits, member) = self.find_member(container, name, 0)?;
            offset += bits / 8;
            match self.resolve(member) {
                Some(next) => container = next,
                None => return None,
            }
        }
        Some(offset)
    }

    /// The offset in bits and the type of a member, which may be in an anonymous struct or union.
    fn find_member(&self, of: Type<'a>, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > 8 || !matches!(of.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for (member_name, member, offset) in of.members() {
            let offset = if of.kind_flag {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            let found = self.string(member_name);
            if found == name {
                return Some((offset, member));
            }
            if found.is_empty()
                && let Some(anonymous) = self.resolve(member)
                && let Some((inner, member)) = self.find_member(anonymous, name, depth + 1)
            {
                return Some((offset + inner, member));
            }
        }
        None
    }

    /// The size of a struct in bytes.
    pub fn size(&self, of: &'static str) -> Option<u32> {
        Some(self.named(of, &[KIND_STRUCT])?.size_or_type)
    }

    /// The id of a struct.
    pub fn structure(&self, name: &'static str) -> Option<u32> {
        self.named.get(&(name, KIND_STRUCT)).copied()
    }

    /// The value of an enumerator.
    pub fn enumerator(&self, of: &'static str, name: &str) -> Option<u32> {
        let found = self.named(of, &[KIND_ENUM, KIND_ENUM64])?;
        let step = if found.kind == KIND_ENUM { 8 } else { 12 };
        found
            .rest
            .chunks_exact(step)
            .take(found.count)
            .find_map(|enumerator| {
                (self.string(read(enumerator, 0)?) == name).then(|| read(enumerator, 4))?
            })
    }

    /// Whether a member of a struct is an array.
    pub fn is_array(&self, of: &'static str, member: &str) -> Option<bool> {
        let (_, member) = self.find_member(self.named(of, &[KIND_STRUCT])?, member, 0)?;
        Some(self.resolve(member)?.kind == KIND_ARRAY)
    }

    /// The id of a typedef.
    pub fn typedef(&self, name: &'static str) -> Option<u32> {
        self.named.get(&(name, KIND_TYPEDEF)).copied()
    }

    /// The id of a kernel function.
    pub fn function(&self, name: &'static str) -> Option<u32> {
        self.named.get(&(name, KIND_FUNC)).copied()
    }

    /// For each parameter of a BTF tracepoint (`typedef btf_trace_NAME`), whether it is a pointer.
    pub fn tracepoint(&self, typedef: &'static str) -> Option<Vec<bool>> {
        let pointer = self.resolve(self.named(typedef, &[KIND_TYPEDEF])?.size_or_type)?;
        let prototype = self.resolve(pointer.size_or_type)?;
        if pointer.kind != KIND_PTR || prototype.kind != KIND_FUNC_PROTO {
            return None;
        }
        let parameters = prototype.rest.chunks_exact(8).take(prototype.count);
        let is_pointer = |parameter: &[u8]| {
            let kind = read(parameter, 4).and_then(|id| self.resolve(id));
            kind.is_some_and(|kind| kind.kind == KIND_PTR)
        };
        // The first parameter is the tracepoint's own data, which programs do not get.
        Some(parameters.skip(1).map(is_pointer).collect())
    }
}

impl<'a> Type<'a> {
    fn read(data: &'a [u8], at: usize) -> Option<Self> {
        let info = read(data, at + 4)?;
        Some(Self {
            kind: (info >> 24 & 0x1f) as u8,
            kind_flag: info >> 31 == 1,
            count: (info & 0xffff) as usize,
            size_or_type: read(data, at + 8)?,
            name: read(data, at)?,
            rest: data.get(at + 12..)?,
        })
    }

    /// The number of bytes behind the first twelve; `None` for an unknown kind.
    fn rest_len(&self) -> Option<usize> {
        Some(match self.kind {
            KIND_PTR | 7 | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT
            | KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
            1 | 14 | 17 => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => 12 * self.count,
            KIND_ENUM | KIND_FUNC_PROTO => 8 * self.count,
            _ => return None,
        })
    }

    /// The name, type and offset of each member.
    fn members(&self) -> impl Iterator<Item = (u32, u32, u32)> + use<'a> {
        self.rest
            .chunks_exact(12)
            .take(self.count)
            .filter_map(|member| Some((read(member, 0)?, read(member, 4)?, read(member, 8)?)))
    }
}

fn read(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A little BTF: `struct outer { int pad; union { int a; int b; }; int list[2]; }`, an enum,
    /// and the typedef of a tracepoint with a pointer and an int.
    fn small() -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let (outer, pad, a, b, list) = (
            string("outer"),
            string("pad"),
            string("a"),
            string("b"),
            string("list"),
        );
        let (colour, red) = (string("colour"), string("red"));
        let (trace, function) = (string("btf_trace_small"), string("call"));
        let info = |kind: u32, count: u32| kind << 24 | count;
        let types: Vec<u32> = [
            vec![0, info(1, 0), 4, 32],                                    // 1: int
            vec![0, info(5, 2), 4, a, 1, 0, b, 1, 0],                      // 2: the union
            vec![0, info(3, 0), 0, 1, 1, 2],                               // 3: int[2]
            vec![outer, info(4, 3), 16, pad, 1, 0, 0, 2, 32, list, 3, 64], // 4
            vec![colour, info(6, 1), 4, red, 7],                           // 5
            vec![0, info(2, 0), 4],                                        // 6: struct outer *
            vec![0, info(13, 3), 0, 0, 6, 0, 6, 0, 1],                     // 7: prototype
            vec![0, info(2, 0), 7],                                        // 8
            vec![trace, info(8, 0), 8],                                    // 9
            vec![function, info(12, 0), 7],                                // 10
        ]
        .concat();
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let words = header
            .iter()
            .chain(&types)
            .flat_map(|word| word.to_ne_bytes());
        words.chain(strings).collect()
    }

    fn wanted() -> HashSet<&'static str> {
        HashSet::from(["outer", "colour", "btf_trace_small", "call"])
    }

    #[test]
    fn finds_what_is_asked_for() {
        let data = small();
        let btf = Btf::parse(&data, &wanted()).unwrap();
        assert_eq!(btf.member("outer", "b"), Some(4));
        assert_eq!(btf.member("outer", "list"), Some(8));
        assert_eq!(btf.member("outer", "missing"), None);
        assert_eq!(btf.bit("outer", "b"), Some(32));
        assert_eq!(btf.size("outer"), Some(16));
        assert_eq!(btf.enumerator("colour", "red"), Some(7));
        assert_eq!(btf.is_array("outer", "list"), Some(true));
        assert_eq!(btf.is_array("outer", "pad"), Some(false));
        assert_eq!(btf.tracepoint("btf_trace_small"), Some(vec![true, false]));
        assert_eq!(btf.structure("outer"), Some(4));
        assert_eq!(btf.typedef("btf_trace_small"), Some(9));
        assert_eq!(btf.function("call"), Some(10));
        assert_eq!(btf.function("colour"), None);
    }

    proptest! {
        #[test]
        fn broken_bytes_never_panic(at in 0usize..300, byte: u8, cut in 0usize..300) {
            let mut data = small();
            let at = at % data.len();
            data[at] = byte;
            data.truncate(data.len() - cut % data.len());
            if let Ok(btf) = Btf::parse(&data, &wanted()) {
                btf.member("outer", "list.b");
                btf.enumerator("colour", "red");
                btf.tracepoint("btf_trace_small");
            }
        }
    }
}
