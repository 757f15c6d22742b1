//! The type table: an arena of types with compact ids, filled from facts or from a CRD's schema.
//!
//! [`builtin`] holds every built-in kind, read once from `facts/types.txt`. A [`Schema`] is one
//! kind of one table; everything that reads or changes an object by its type starts from it.
//! Invariant: ids are only valid in their own table; a finished table never changes.

use super::custom::Structural;
use crate::api::GroupVersionKind;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A type in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(super) u32);

/// A struct in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StructId(pub(super) u32);

/// A piece of the table's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Name {
    start: u32,
    length: u32,
}

/// What a value of a type looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Float,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in seconds, UTC.
    Time,
    /// RFC 3339 with six digits, UTC.
    MicroTime,
    /// As Go prints it: `1h30m0s`.
    Duration,
    Quantity,
    IntOrString,
    /// Any JSON: `runtime.RawExtension`.
    RawExtension,
    /// Any JSON: `apiextensions.JSON`, `interface{}`.
    Any,
    /// Any JSON, whose maps have an owner for each entry: unknown fields of custom resources.
    Deduced,
    /// `metav1.FieldsV1`.
    FieldsV1,
    List {
        element: TypeId,
        list: ListType,
    },
    Map {
        value: TypeId,
        /// Owned as a whole by server-side apply.
        atomic: bool,
    },
    Struct {
        id: StructId,
        atomic: bool,
    },
    /// `JSONSchemaPropsOrArray`; the type is JSONSchemaProps, here and below.
    SchemaOrArray(TypeId),
    SchemaOrBool(TypeId),
    SchemaOrStringArray(TypeId),
}

/// Who owns what in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// All or nothing.
    Atomic,
    /// Each value.
    Set,
    /// Each element, by its keys ([`TypeTable::keys`]).
    Map { keys: u32 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub shape: Shape,
    /// As Go's errors name it: `[]v1.Container`.
    pub go: Name,
}

/// One field as its struct declares it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: Name,
    pub kind: TypeId,
    /// Protobuf number; 0: not in the message.
    pub number: u16,
    flags: u8,
    pub patch: PatchStrategy,
    pub merge_key: Name,
    /// The default of the declaration, as JSON; empty: none.
    pub default: Name,
}

/// Of strategic merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub retain_keys: bool,
    pub replace: bool,
}

const POINTER: u8 = 1;
const OMIT_EMPTY: u8 = 2;
const OMIT_ZERO: u8 = 4;
const INLINE: u8 = 8;
const REQUIRED: u8 = 16;

impl Field {
    /// Absent differs from zero.
    pub fn pointer(&self) -> bool {
        self.flags & POINTER != 0
    }
    /// Not written when empty.
    pub fn omit_empty(&self) -> bool {
        self.flags & OMIT_EMPTY != 0
    }
    pub fn omit_zero(&self) -> bool {
        self.flags & OMIT_ZERO != 0
    }
    /// Its fields are the struct's own in JSON; a message of its own in protobuf.
    pub fn inline(&self) -> bool {
        self.flags & INLINE != 0
    }
    pub fn required(&self) -> bool {
        self.flags & REQUIRED != 0
    }
}

/// A field as JSON sees it: those of inline structs beside the struct's own.
#[derive(Clone, Copy, Debug)]
pub struct Flat {
    pub field: Field,
    /// Go's names of the inline structs it comes from, joined by dots; empty: declared here.
    pub embedded: Name,
    /// Written even when it is absent, as zero (`status: {}`).
    pub(super) always: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Struct {
    pub go: Name,
    /// Go's package: `core/v1`.
    pub package: Name,
    /// By protobuf number.
    pub declared: Range<u32>,
    /// By name.
    pub flat: Range<u32>,
    /// A bit for each of them that is always written.
    pub always: u128,
    pub atomic: bool,
    /// Of what is not declared, where that stays.
    pub rest: Option<TypeId>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct TypeTable {
    text: std::borrow::Cow<'static, str>,
    nodes: Vec<Node>,
    structs: Vec<Struct>,
    declared: Vec<Field>,
    flat: Vec<Flat>,
    /// The [`prefix`] of the name of each in `flat`: what is looked for is found among these.
    prefixes: Vec<u64>,
    keys: Vec<Box<[Name]>>,
    kinds: HashMap<GroupVersionKind, TypeId>,
    /// Group and version of each package, with the package's name.
    versions: HashMap<(String, String), Name>,
    meta: HashMap<String, TypeId>,
}

/// One kind of a table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    pub table: Arc<TypeTable>,
    pub root: TypeId,
    pub gvk: GroupVersionKind,
    /// Of all types that the kind reaches: `Body::schema`.
    pub hash: u64,
    /// Of a custom resource.
    pub structural: Option<Arc<Structural>>,
}

impl Schema {
    /// The type of the field at the end of a path as errors have it: `spec`, `ports`, `0`.
    pub fn at_steps<'s>(&self, mut steps: impl Iterator<Item = &'s str>) -> Option<TypeId> {
        let table = &self.table;
        steps.try_fold(self.root, |kind, step| match table.shape(kind) {
            Shape::Struct { id, .. } => table.field(id, step).map(|flat| flat.field.kind),
            Shape::List { element, .. } => Some(element),
            Shape::Map { value, .. } => Some(value),
            _ => None,
        })
    }
}

/// The table of the built-in kinds.
pub fn builtin() -> &'static Arc<TypeTable> {
    static TABLE: std::sync::LazyLock<Arc<TypeTable>> =
        std::sync::LazyLock::new(|| Arc::new(super::facts::read(include_str!("facts/types.txt"))));
    &TABLE
}

/// The schema of a built-in kind.
pub fn builtin_schema(gvk: &GroupVersionKind) -> Option<Schema> {
    builtin().schema(gvk)
}

impl TypeTable {
    pub fn name(&self, name: Name) -> &str {
        &self.text[name.start as usize..(name.start + name.length) as usize]
    }

    pub fn shape(&self, kind: TypeId) -> Shape {
        self.nodes[kind.0 as usize].shape
    }

    /// As Go's errors name the type: `v1.PodSpec`, `[]string`.
    pub fn go_name(&self, kind: TypeId) -> &str {
        self.name(self.nodes[kind.0 as usize].go)
    }

    /// Go's name of a struct without its package: `PodSpec`.
    pub fn struct_name(&self, id: StructId) -> &str {
        self.name(self.structs[id.0 as usize].go)
    }

    /// A struct by its package and name.
    pub fn struct_named(&self, package: &str, name: &str) -> Option<StructId> {
        self.struct_of(name, |known| known == package)
    }

    /// A struct by its name and what holds of its package.
    pub fn struct_of(&self, name: &str, package: impl Fn(&str) -> bool) -> Option<StructId> {
        let found =
            self.structs.iter().position(|known| self.name(known.go) == name && package(self.name(known.package)))?;
        u32::try_from(found).ok().map(StructId)
    }

    /// The package that declares a struct: `core/v1`, `meta/v1`.
    pub fn package(&self, id: StructId) -> &str {
        self.name(self.structs[id.0 as usize].package)
    }

    /// A struct's own fields by protobuf number, inline structs as one field each.
    pub fn declared(&self, id: StructId) -> &[Field] {
        let range = &self.structs[id.0 as usize].declared;
        &self.declared[range.start as usize..range.end as usize]
    }

    /// A struct's fields as JSON has them, by name.
    pub fn fields(&self, id: StructId) -> &[Flat] {
        let range = &self.structs[id.0 as usize].flat;
        &self.flat[range.start as usize..range.end as usize]
    }

    pub fn field(&self, id: StructId, name: &str) -> Option<&Flat> {
        self.position(id, name).map(|at| &self.fields(id)[at])
    }

    /// Where a field is in [`Self::fields`].
    pub fn position(&self, id: StructId, name: &str) -> Option<usize> {
        let range = &self.structs[id.0 as usize].flat;
        let range = range.start as usize..range.end as usize;
        let (fields, prefixes) = (&self.flat[range.clone()], &self.prefixes[range]);
        let wanted = prefix(name);
        let first = prefixes.partition_point(|prefix| *prefix < wanted);
        let alike = prefixes[first..].iter().take_while(|prefix| **prefix == wanted).count();
        (first..first + alike).find(|&at| self.name(fields[at].field.name) == name)
    }

    /// Whether every field of this type is owned as a whole by its declaration.
    pub fn struct_is_atomic(&self, id: StructId) -> bool {
        self.structs[id.0 as usize].atomic
    }

    /// The type of fields that are not declared. None: there are none.
    pub(super) fn rest(&self, id: StructId) -> Option<TypeId> {
        self.structs[id.0 as usize].rest
    }

    /// A bit for each of [`Self::fields`] that is always written.
    pub(super) fn always(&self, id: StructId) -> u128 {
        self.structs[id.0 as usize].always
    }

    /// The keys of a list of [`ListType::Map`].
    pub fn keys(&self, keys: u32) -> &[Name] {
        &self.keys[keys as usize]
    }

    /// The struct behind a type.
    pub fn as_struct(&self, kind: TypeId) -> Option<StructId> {
        match self.shape(kind) {
            Shape::Struct { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The type of `path` below `kind`: field names, `*` for list elements and map values.
    pub fn resolve(&self, kind: TypeId, path: &[&str]) -> Option<TypeId> {
        path.iter().try_fold(kind, |kind, step| match self.shape(kind) {
            Shape::Struct { id, .. } => self.field(id, step).map(|flat| flat.field.kind),
            Shape::List { element, .. } => Some(element),
            Shape::Map { value, .. } => Some(value),
            _ => None,
        })
    }

    /// Options and replies of the API machinery are kinds of every group version.
    pub fn schema(self: &Arc<Self>, gvk: &GroupVersionKind) -> Option<Schema> {
        let root = self.lookup(gvk)?;
        Some(Schema { table: Arc::clone(self), root, gvk: gvk.clone(), hash: self.hash(root), structural: None })
    }

    pub(super) fn lookup(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        self.kinds.get(gvk).copied().or_else(|| {
            self.package_of(&gvk.group, &gvk.version)?;
            self.meta.get(&gvk.kind).copied()
        })
    }

    /// The package of a group version: `core/v1`. None: there is no such group version.
    pub fn package_of(&self, group: &str, version: &str) -> Option<&str> {
        self.versions.get(&(group.to_owned(), version.to_owned())).map(|&name| self.name(name))
    }

    /// Every group version, with its package.
    pub fn versions(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.versions.iter().map(|((group, version), &package)| (group.as_str(), version.as_str(), self.name(package)))
    }

    /// Every kind of the table.
    pub fn kinds(&self) -> impl Iterator<Item = &GroupVersionKind> {
        self.kinds.keys()
    }

    /// Of everything that is reachable from `root`; the same in every process.
    fn hash(&self, root: TypeId) -> u64 {
        let mut hash = Fnv::default();
        let mut seen = vec![false; self.nodes.len()];
        let mut pending = vec![root];
        // What decoding makes of a table's entries may change, too: raise this then.
        hash.write(b"1");
        while let Some(kind) = pending.pop() {
            if std::mem::replace(&mut seen[kind.0 as usize], true) {
                continue;
            }
            hash.write(self.go_name(kind).as_bytes());
            match self.shape(kind) {
                Shape::List { element, list } => {
                    hash.write(&[1, matches!(list, ListType::Atomic) as u8]);
                    pending.push(element);
                }
                Shape::Map { value, atomic } => {
                    hash.write(&[2, atomic as u8]);
                    pending.push(value);
                }
                Shape::Struct { id, atomic } => {
                    hash.write(&[3, atomic as u8]);
                    for flat in self.fields(id) {
                        hash.write(self.name(flat.field.name).as_bytes());
                        hash.write(&[flat.field.flags, flat.always as u8]);
                        pending.push(flat.field.kind);
                    }
                }
                Shape::SchemaOrArray(kind) | Shape::SchemaOrBool(kind) | Shape::SchemaOrStringArray(kind) => {
                    pending.push(kind);
                }
                _ => hash.write(&[4]),
            }
        }
        hash.0
    }
}

/// The first bytes of a name, in the order of names.
fn prefix(name: &str) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(first.len());
    first[..length].copy_from_slice(&name.as_bytes()[..length]);
    u64::from_be_bytes(first)
}

/// Of a text; the same in every process.
pub(super) fn text_hash(text: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.write(text.as_bytes());
    hash.0
}

/// FNV-1a: stable across builds, unlike the standard hasher.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// A declared field before it is in a table.
pub(super) struct FieldFacts<'a> {
    pub name: &'a str,
    pub kind: TypeId,
    pub number: u16,
    /// Letters: `p` pointer, `o` omitempty, `z` omitzero, `i` inline, `r` required.
    pub flags: &'a str,
    pub patch: PatchStrategy,
    pub merge_key: &'a str,
    pub default: &'a str,
}

/// Fills a table.
#[derive(Default)]
pub(super) struct Builder {
    text: String,
    names: HashMap<String, Name>,
    table: TypeTable,
}

impl Builder {
    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(&name) = self.names.get(text) {
            return name;
        }
        let name = Name { start: self.text.len() as u32, length: text.len() as u32 };
        self.text.push_str(text);
        self.names.insert(text.to_owned(), name);
        name
    }

    pub fn node(&mut self, shape: Shape, go: &str) -> TypeId {
        let go = self.intern(go);
        self.table.nodes.push(Node { shape, go });
        TypeId(self.table.nodes.len() as u32 - 1)
    }

    pub fn keys<'a>(&mut self, keys: impl Iterator<Item = &'a str>) -> u32 {
        let keys: Box<[Name]> = keys.map(|key| self.intern(key)).collect();
        match self.table.keys.iter().position(|known| *known == keys) {
            Some(at) => at as u32,
            None => {
                self.table.keys.push(keys);
                self.table.keys.len() as u32 - 1
            }
        }
    }

    /// A struct whose fields follow with [`Builder::fill`].
    pub fn declare(&mut self, package: &str, name: &str, atomic: bool) -> StructId {
        let (go, package) = (self.intern(name), self.intern(package));
        self.table.structs.push(Struct { go, package, declared: 0..0, flat: 0..0, always: 0, atomic, rest: None });
        StructId(self.table.structs.len() as u32 - 1)
    }

    pub fn fill(&mut self, id: StructId, fields: &[FieldFacts]) {
        let start = self.table.declared.len() as u32;
        for field in fields {
            let flag = |letter: char, bit: u8| if field.flags.contains(letter) { bit } else { 0 };
            let flags = flag('p', POINTER)
                | flag('o', OMIT_EMPTY)
                | flag('z', OMIT_ZERO)
                | flag('i', INLINE)
                | flag('r', REQUIRED);
            let (name, merge_key, default) =
                (self.intern(field.name), self.intern(field.merge_key), self.intern(field.default));
            self.table.declared.push(Field {
                name,
                kind: field.kind,
                number: field.number,
                flags,
                patch: field.patch,
                merge_key,
                default,
            });
        }
        self.table.structs[id.0 as usize].declared = start..self.table.declared.len() as u32;
    }

    /// What is not declared in a struct stays, and has this type.
    pub fn rest(&mut self, id: StructId, kind: Option<TypeId>) {
        self.table.structs[id.0 as usize].rest = kind;
    }

    /// A type of another table, with all that it reaches.
    pub fn import(&mut self, from: &TypeTable, kind: TypeId, known: &mut HashMap<TypeId, TypeId>) -> TypeId {
        if let Some(&kind) = known.get(&kind) {
            return kind;
        }
        // The place is taken first: a type may reach itself.
        let made = self.node(Shape::Any, from.go_name(kind));
        known.insert(kind, made);
        let shape = match from.shape(kind) {
            Shape::List { element, list } => {
                let list = match list {
                    ListType::Map { keys } => {
                        let names: Vec<&str> = from.keys(keys).iter().map(|&key| from.name(key)).collect();
                        ListType::Map { keys: self.keys(names.into_iter()) }
                    }
                    list => list,
                };
                Shape::List { element: self.import(from, element, known), list }
            }
            Shape::Map { value, atomic } => Shape::Map { value: self.import(from, value, known), atomic },
            Shape::Struct { id, atomic } => {
                let own = self.declare(from.package(id), from.struct_name(id), from.struct_is_atomic(id));
                let mut fields = Vec::with_capacity(from.declared(id).len());
                for field in from.declared(id) {
                    let kind = self.import(from, field.kind, known);
                    let [name, merge_key, default] =
                        [field.name, field.merge_key, field.default].map(|name| self.intern(from.name(name)));
                    fields.push(Field { name, merge_key, default, kind, ..*field });
                }
                let start = self.table.declared.len() as u32;
                self.table.declared.extend(fields);
                self.table.structs[own.0 as usize].declared = start..self.table.declared.len() as u32;
                Shape::Struct { id: own, atomic }
            }
            shape => shape,
        };
        self.table.nodes[made.0 as usize].shape = shape;
        made
    }

    pub fn kind(&mut self, gvk: GroupVersionKind, root: TypeId) {
        self.table.kinds.insert(gvk, root);
    }

    pub fn meta_kind(&mut self, kind: &str, root: TypeId) {
        self.table.meta.insert(kind.to_owned(), root);
    }

    pub fn version(&mut self, group: &str, version: &str, package: &str) {
        let package = self.intern(package);
        self.table.versions.insert((group.to_owned(), version.to_owned()), package);
    }

    /// Flatten the inline structs.
    pub fn finish(mut self) -> TypeTable {
        let mut flats = Vec::with_capacity(self.table.structs.len());
        for at in 0..self.table.structs.len() {
            let mut flat = Vec::new();
            self.flatten(StructId(at as u32), Name::default(), &mut flat);
            flats.push(flat);
        }
        let table = &mut self.table;
        table.text = std::mem::take(&mut self.text).into();
        for (at, mut flat) in flats.into_iter().enumerate() {
            flat.sort_by(|a, b| table.name(a.field.name).cmp(table.name(b.field.name)));
            let start = table.flat.len() as u32;
            let always = flat.iter().enumerate().filter(|(_, field)| field.always);
            table.structs[at].always =
                always.fold(0, |all, (at, _)| all | 1_u128.checked_shl(at as u32).unwrap_or_default());
            let names = flat.iter().map(|field| prefix(table.name(field.field.name))).collect::<Vec<_>>();
            table.prefixes.extend(names);
            table.flat.extend(flat);
            table.structs[at].flat = start..table.flat.len() as u32;
        }
        self.table
    }

    fn flatten(&mut self, id: StructId, embedded: Name, out: &mut Vec<Flat>) {
        for field in self.table.declared(id).to_vec() {
            let name_of = |name: Name| &self.text[name.start as usize..(name.start + name.length) as usize];
            match (field.inline(), self.table.shape(field.kind)) {
                (true, Shape::Struct { id, .. }) => {
                    let embedded = match (name_of(embedded), name_of(field.name)) {
                        ("", name) => name.to_owned(),
                        (outer, name) => format!("{outer}.{name}"),
                    };
                    let embedded = self.intern(&embedded);
                    self.flatten(id, embedded, out);
                }
                (_, shape) => {
                    let dropped_when_empty = field.pointer()
                        || !matches!(
                            shape,
                            Shape::Struct { .. }
                                | Shape::Time
                                | Shape::MicroTime
                                | Shape::Duration
                                | Shape::Quantity
                                | Shape::IntOrString
                                | Shape::RawExtension
                        );
                    let always = !(field.omit_zero() || (field.omit_empty() && dropped_when_empty));
                    out.push(Flat { field, embedded, always });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(api_version: &str, kind: &str) -> Schema {
        builtin_schema(&GroupVersionKind::from_api_version(api_version, kind)).expect("a built-in kind")
    }

    #[test]
    fn containers_are_a_map_by_name() {
        let deployment = schema("apps/v1", "Deployment");
        let table = &deployment.table;
        let containers =
            table.resolve(deployment.root, &["spec", "template", "spec", "containers"]).expect("the field is there");
        assert_eq!(table.go_name(containers), "[]v1.Container");
        let Shape::List { element, list: ListType::Map { keys } } = table.shape(containers) else {
            panic!("containers: {:?}", table.shape(containers));
        };
        assert_eq!(table.keys(keys).iter().map(|&key| table.name(key)).collect::<Vec<_>>(), ["name"]);
        assert_eq!(table.struct_name(table.as_struct(element).expect("a struct")), "Container");
    }

    #[test]
    fn fields_of_inline_structs_are_the_structs_own() {
        let pod = schema("v1", "Pod");
        let volume = pod.table.resolve(pod.root, &["spec", "volumes", "*"]).and_then(|kind| pod.table.as_struct(kind));
        let volume = volume.expect("a struct");
        let config_map = pod.table.field(volume, "configMap").expect("from VolumeSource");
        assert_eq!(pod.table.name(config_map.embedded), "VolumeSource");
        assert!(pod.table.field(volume, "VolumeSource").is_none());
    }

    #[test]
    fn each_field_is_found_by_its_name_alone() {
        let table = builtin();
        for id in (0..table.structs.len()).map(|at| StructId(at as u32)) {
            let names: Vec<&str> = table.fields(id).iter().map(|flat| table.name(flat.field.name)).collect();
            assert!(names.len() < 128, "{} has a bit for each field", table.struct_name(id));
            for (at, name) in names.iter().enumerate() {
                assert_eq!(table.position(id, name), Some(at), "{name} of {}", table.struct_name(id));
                for other in [&name[1..], &name[..name.len() - 1], &format!("{name}s"), &format!("{name}\0")] {
                    assert_eq!(table.position(id, other), names.iter().position(|known| *known == other), "{other:?}");
                }
            }
        }
    }

    #[test]
    fn a_hash_tells_kinds_apart_and_stays() {
        assert_ne!(schema("v1", "ConfigMap").hash, schema("v1", "Secret").hash);
        assert_eq!(
            schema("v1", "ConfigMap").hash,
            builtin().schema(&schema("v1", "ConfigMap").gvk).expect("again").hash
        );
    }

    #[test]
    fn options_are_kinds_of_every_group_version() {
        schema("apps/v1", "DeleteOptions");
        let unknown = GroupVersionKind::new("nope", "v1", "DeleteOptions");
        assert!(builtin_schema(&unknown).is_none());
    }
}
