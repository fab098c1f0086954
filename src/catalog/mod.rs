//! A Postgres schema as plain data: what it contains, how two differ, what a version changes, and the expected catalogs
//! that are committed beside the timeline.
//!
//! # What is compared
//!
//! Objects are found by what they are, not by what they happen to be called: constraints and indexes by their structure
//! (counted where a table has true duplicates), the sequence that feeds a column by that column, functions by name and
//! argument types, everything else by name. Column order, comments, function bodies, storage parameters, extension
//! versions and the names of constraints, indexes and fed sequences are recorded and never compared: they carry no
//! evidence, and dump and restore or a rename changes them.
//!
//! Definitions are compared in their normal form (see [`normal`](mod@normal)). A view is equal if its columns, the
//! columns it reads and its normal query are; between servers of different major versions the query is not asked.
//!
//! Row security is an object of its own, so that a user who switches it on adds something and changes nothing.

pub mod compare;
pub mod effects;
pub mod expected;
pub mod feed;
mod json;
pub mod normal;
pub mod optional;
pub mod render;
pub mod resemble;

pub use compare::{Difference, Different, compare, side_by_side};
pub use effects::{Effects, effects};
pub use expected::{Expected, Index, Recorded};
pub use optional::{Optional, compare_leniently};
pub use resemble::{Resemblance, resemble};

use normal::{normal, normal_default, normal_query};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The objects of an application in one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// `server_version_num` of the server that printed the definitions; 0 if none did.
    pub server: u32,
    pub objects: BTreeMap<ObjectId, Object>,
}

/// The kinds of objects, in the order in which they can be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Extension,
    Enum,
    Domain,
    Composite,
    Range,
    Function,
    Table,
    View,
    MaterializedView,
    Column,
    Sequence,
    Constraint,
    Index,
    Trigger,
    RowSecurity,
    Policy,
}

/// What makes an object the same object in two databases.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Empty for an extension, which belongs to the database.
    pub schema: String,
    /// The table or view that it is or belongs to; empty for what stands alone.
    pub relation: String,
    pub kind: Kind,
    /// The name; the structure of a constraint or index; the column that a sequence feeds; empty for a relation itself.
    pub name: String,
    /// Tells true duplicates apart, from 0.
    pub occurrence: u32,
}

/// An object as one server described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub detail: Detail,
    pub comment: Option<String>,
}

/// What there is to know about an object. Expressions and definitions are as the server prints them with an empty
/// `search_path`, except that what belongs to an extension is not qualified: an extension's schema is the database's
/// own choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    Extension(Extension),
    Enum(Enum),
    Domain(Domain),
    Composite(Composite),
    Range(Range),
    Function(Function),
    Table(Table),
    View(View),
    MaterializedView(View),
    Column(Column),
    Sequence(Sequence),
    Constraint(Constraint),
    Index(IndexDefinition),
    Trigger(Trigger),
    RowSecurity(RowSecurity),
    Policy(Policy),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    pub version: String,
    pub schema: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enum {
    /// In their order.
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    #[serde(rename = "type")]
    pub data_type: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_null: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Definitions of its constraints, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
}

/// A free-standing row type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composite {
    /// Names and types, in their order.
    pub attributes: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub subtype: String,
    /// What is not as the subtype has it: `SUBTYPE_DIFF = …`, `MULTIRANGE_TYPE_NAME = …`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A function, procedure, aggregate or window function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// `function`, `procedure`, `aggregate` or `window`.
    pub variety: String,
    /// Result type; empty for a procedure.
    pub result: String,
    pub language: String,
    /// The statement that creates it; empty for an aggregate, which the server cannot print.
    pub definition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    #[serde(default, skip_serializing_if = "is_false")]
    pub unlogged: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub foreign: bool,
    /// `RANGE (created_at)`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    /// `FOR VALUES FROM (…) TO (…)`, of a partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_bound: Option<String>,
    /// Qualified names: of the partitioned table, or of the tables it inherits from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Storage parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Names and types, in their order.
    pub columns: Vec<(String, String)>,
    /// Qualified names of the relations and columns that it depends on, sorted.
    pub reads: Vec<String>,
    pub definition: String,
    /// `security_invoker=true`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Column {
    /// `attnum`: the order, with gaps.
    pub position: i32,
    #[serde(rename = "type")]
    pub data_type: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_null: bool,
    /// The default is the next value of the sequence that feeds this column, which is an object of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub serial: bool,
    /// The default, or the expression of a generated column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// `stored` or `virtual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<String>,
    /// `always` or `by default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// If it is not the type's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    pub name: String,
    /// The column owns it, or its default is the only one that uses it: `owned`, `identity` or `used`; else `free`.
    pub feeds: Feeds,
    #[serde(rename = "type")]
    pub data_type: String,
    pub start: i64,
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cache: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cycle: bool,
}

/// How a sequence belongs to a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feeds {
    Identity,
    Owned,
    Used,
    Free,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    pub name: String,
    /// `pg_get_constraintdef`
    pub definition: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_valid: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDefinition {
    pub name: String,
    /// `pg_get_indexdef`
    pub definition: String,
    /// Left behind by an interrupted concurrent build.
    #[serde(default, skip_serializing_if = "is_false")]
    pub invalid: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// `pg_get_triggerdef`
    pub definition: String,
    /// `tgenabled`: O fires normally, D is disabled, R and A fire in replica mode.
    pub enabled: String,
}

/// `ENABLE` or `FORCE ROW LEVEL SECURITY`, which is the name in its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSecurity {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub permissive: bool,
    /// `ALL`, `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub command: String,
    /// Sorted; `public` is everyone.
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Catalog {
    /// Adds an object under an id that is free: the next occurrence where that one is taken.
    pub fn insert(&mut self, mut id: ObjectId, object: Object) {
        while self.objects.contains_key(&id) {
            id.occurrence += 1;
        }
        self.objects.insert(id, object);
    }

    /// Hex SHA-256 over all that is compared. Equal digests mean equal catalogs; different ones ask for [`compare`],
    /// which also knows harmless extras and how major versions print views.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut line = String::new();
        for (id, object) in &self.objects {
            line.clear();
            let ObjectId { schema, relation, kind, name, occurrence } = id;
            let (word, comparable) = (kind.word(), object.detail.comparable());
            // Separators keep one field from running into the next. Writing to a String cannot fail.
            let _ = write!(
                line,
                "{word}\x1f{schema}\x1f{relation}\x1f{name}\x1f{occurrence}\x1f{comparable}\x1e"
            );
            hash.update(line.as_bytes());
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl Kind {
    /// In words, for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Enum => "enum",
            Self::Domain => "domain",
            Self::Composite => "composite type",
            Self::Range => "range type",
            Self::Function => "function",
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Column => "column",
            Self::Sequence => "sequence",
            Self::Constraint => "constraint",
            Self::Index => "index",
            Self::Trigger => "trigger",
            Self::RowSecurity => "row security",
            Self::Policy => "policy",
        }
    }

    /// A relation in its own right, to which others belong.
    pub fn is_relation(self) -> bool {
        matches!(self, Self::Table | Self::View | Self::MaterializedView)
    }
}

impl ObjectId {
    /// The id of a relation itself.
    pub fn relation(kind: Kind, schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), relation: name.into(), kind, name: String::new(), occurrence: 0 }
    }

    /// The id of something that belongs to a relation.
    pub fn part(
        kind: Kind,
        schema: impl Into<String>,
        relation: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { schema: schema.into(), relation: relation.into(), kind, name: name.into(), occurrence: 0 }
    }

    /// The id of something that stands alone.
    pub fn alone(kind: Kind, schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self::part(kind, schema, "", name)
    }

    /// Whether it belongs to a relation without being one.
    pub fn is_part(&self) -> bool {
        !self.relation.is_empty() && !self.kind.is_relation()
    }
}

/// `public.` is left out: it is where nearly everything is.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, relation, kind, name, occurrence } = self;
        let (dot, schema) =
            if matches!(schema.as_str(), "" | "public") { ("", "") } else { (".", schema.as_str()) };
        let word = kind.word();
        match kind {
            _ if relation.is_empty() => write!(f, "{word} {schema}{dot}{name}")?,
            Kind::Table | Kind::View | Kind::MaterializedView => write!(f, "{word} {schema}{dot}{relation}")?,
            Kind::Column => write!(f, "{word} {schema}{dot}{relation}.{name}")?,
            Kind::Sequence => write!(f, "{word} of {schema}{dot}{relation}.{name}")?,
            Kind::Constraint | Kind::RowSecurity => write!(f, "{name} on {schema}{dot}{relation}")?,
            _ => write!(f, "{word} {name} on {schema}{dot}{relation}")?,
        }
        if *occurrence > 0 {
            write!(f, " ({} of the same)", occurrence + 1)?;
        }
        Ok(())
    }
}

impl Object {
    /// An object without a comment.
    pub fn new(detail: Detail) -> Self {
        Self { detail, comment: None }
    }
}

impl Detail {
    /// The kind of object it describes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Extension(_) => Kind::Extension,
            Self::Enum(_) => Kind::Enum,
            Self::Domain(_) => Kind::Domain,
            Self::Composite(_) => Kind::Composite,
            Self::Range(_) => Kind::Range,
            Self::Function(_) => Kind::Function,
            Self::Table(_) => Kind::Table,
            Self::View(_) => Kind::View,
            Self::MaterializedView(_) => Kind::MaterializedView,
            Self::Column(_) => Kind::Column,
            Self::Sequence(_) => Kind::Sequence,
            Self::Constraint(_) => Kind::Constraint,
            Self::Index(_) => Kind::Index,
            Self::Trigger(_) => Kind::Trigger,
            Self::RowSecurity(_) => Kind::RowSecurity,
            Self::Policy(_) => Kind::Policy,
        }
    }

    /// All that is compared, in words and in normal form: equal if and only if the objects mean the same.
    pub fn comparable(&self) -> String {
        match self {
            Self::Extension(_) | Self::RowSecurity(_) => "present".to_owned(),
            Self::Enum(Enum { labels }) => labels.join(", "),
            Self::Domain(domain) => {
                let mut text = domain.data_type.clone();
                push_if(&mut text, domain.not_null, " not null");
                push_after(&mut text, " default ", domain.default.as_deref().map(normal_default));
                let mut checks: Vec<String> = domain.checks.iter().map(|check| normal(check)).collect();
                checks.sort();
                for check in checks {
                    push_after(&mut text, " ", Some(check));
                }
                text
            }
            Self::Composite(Composite { attributes }) => pairs(attributes),
            Self::Range(Range { subtype, options }) => {
                let mut text = format!("of {subtype}");
                push_after(&mut text, " with ", (!options.is_empty()).then(|| options.join(", ")));
                text
            }
            Self::Function(function) if function.result.is_empty() => function.variety.clone(),
            Self::Function(function) => format!("{} returns {}", function.variety, function.result),
            Self::Table(table) => table.comparable(),
            Self::View(view) | Self::MaterializedView(view) => {
                format!("{} as {}", view.outline(), normal_query(&view.definition))
            }
            Self::Column(column) => column.comparable(),
            Self::Sequence(sequence) => sequence.comparable(),
            Self::Constraint(Constraint { not_valid, .. }) => {
                if *not_valid { "not valid" } else { "valid" }.to_owned()
            }
            Self::Index(IndexDefinition { invalid, .. }) => {
                if *invalid { "invalid" } else { "valid" }.to_owned()
            }
            Self::Trigger(Trigger { definition, enabled }) => {
                let state = match enabled.as_str() {
                    "O" => "",
                    "D" => " disabled",
                    "R" => " in replica mode only",
                    _ => " in every mode",
                };
                format!("{}{state}", normal(definition))
            }
            Self::Policy(policy) => {
                let mode = if policy.permissive { "permissive" } else { "restrictive" };
                let mut text = format!("{mode} for {} to {}", policy.command, policy.roles.join(", "));
                push_after(&mut text, " using ", policy.using.as_deref().map(normal));
                push_after(&mut text, " with check ", policy.check.as_deref().map(normal));
                text
            }
        }
    }

    /// As its owner knows it, in one line: the statement or expression that makes it, as far as there is one.
    pub fn definition(&self) -> String {
        let text = match self {
            Self::Function(Function { definition, .. }) if !definition.is_empty() => definition,
            Self::View(View { definition, .. }) | Self::MaterializedView(View { definition, .. }) => {
                definition
            }
            Self::Constraint(Constraint { definition, .. })
            | Self::Index(IndexDefinition { definition, .. })
            | Self::Trigger(Trigger { definition, .. }) => definition,
            _ => &self.comparable(),
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(';').to_owned()
    }

    /// Whether both mean the same. `across` says that they come from servers of different major versions.
    pub fn same(&self, other: &Self, across: bool) -> bool {
        if self == other {
            return true;
        }
        match (self, other) {
            (Self::View(a), Self::View(b)) | (Self::MaterializedView(a), Self::MaterializedView(b)) => {
                a.outline() == b.outline()
                    && (across || normal_query(&a.definition) == normal_query(&b.definition))
            }
            _ => self.comparable() == other.comparable(),
        }
    }

    /// Whether this, found in a database, is what is wanted: the same, or an enum with labels of the user's own besides, which
    /// no server can take away again.
    pub fn stands_for(&self, wanted: &Self, across: bool) -> bool {
        match (self, wanted) {
            (Self::Enum(found), Self::Enum(wanted)) => {
                let mut found = found.labels.iter();
                wanted.labels.iter().all(|label| found.any(|other| other == label))
            }
            _ => self.same(wanted, across),
        }
    }
}

impl Table {
    fn comparable(&self) -> String {
        let mut text = match (self.foreign, self.unlogged) {
            (true, _) => "foreign",
            (false, true) => "unlogged",
            (false, false) => "ordinary",
        }
        .to_owned();
        push_after(&mut text, " partitioned by ", self.partition_key.as_deref().map(normal));
        if !self.parents.is_empty() {
            let relation = if self.partition_bound.is_some() { " partition of " } else { " inherits " };
            push_after(&mut text, relation, Some(self.parents.join(", ")));
        }
        push_after(&mut text, " ", self.partition_bound.as_deref().map(normal));
        text
    }
}

impl View {
    /// Columns, what they are read from, and options.
    fn outline(&self) -> String {
        let mut text = format!("({}) from {}", pairs(&self.columns), self.reads.join(", "));
        push_after(&mut text, " with ", self.options.clone());
        text
    }
}

impl Column {
    fn comparable(&self) -> String {
        let mut text = self.data_type.clone();
        push_after(&mut text, " collate ", self.collation.clone());
        push_if(&mut text, self.not_null, " not null");
        push_if(&mut text, self.serial, " serial");
        push_after(&mut text, " identity ", self.identity.clone());
        let before = match self.generated.as_deref() {
            None => " default ",
            Some("stored") => " generated stored as ",
            Some(_) => " generated virtual as ",
        };
        push_after(&mut text, before, self.default.as_deref().map(normal_default));
        text
    }
}

impl Sequence {
    /// A sequence that feeds a column counts that column's rows: how far it may count is the column's type.
    fn comparable(&self) -> String {
        let mut text = format!("increment {}", self.increment);
        push_if(&mut text, self.cycle, " cycle");
        if self.feeds == Feeds::Free {
            let Self { data_type, start, min, max, .. } = self;
            // Writing to a String cannot fail.
            let _ = write!(text, " as {data_type} from {start} min {min} max {max}");
        }
        text
    }
}

fn pairs(columns: &[(String, String)]) -> String {
    let words: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    words.join(", ")
}

fn push_if(text: &mut String, condition: bool, word: &str) {
    if condition {
        text.push_str(word);
    }
}

fn push_after(text: &mut String, before: &str, value: Option<String>) {
    if let Some(value) = value {
        text.push_str(before);
        text.push_str(&value);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn column(relation: &str, name: &str, data_type: &str) -> (ObjectId, Object) {
        let detail = Column { data_type: data_type.to_owned(), ..Column::default() };
        (ObjectId::part(Kind::Column, "public", relation, name), Object::new(Detail::Column(detail)))
    }

    pub fn table(name: &str) -> (ObjectId, Object) {
        (ObjectId::relation(Kind::Table, "public", name), Object::new(Detail::Table(Table::default())))
    }

    pub fn constraint(relation: &str, name: &str, definition: &str) -> (ObjectId, Object) {
        let id = ObjectId::part(Kind::Constraint, "public", relation, normal::normal_constraint(definition));
        let detail =
            Constraint { name: name.to_owned(), definition: definition.to_owned(), not_valid: false };
        (id, Object::new(Detail::Constraint(detail)))
    }

    pub fn catalog(objects: impl IntoIterator<Item = (ObjectId, Object)>) -> Catalog {
        let mut catalog = Catalog { server: 160_000, ..Catalog::default() };
        for (id, object) in objects {
            catalog.insert(id, object);
        }
        catalog
    }

    fn with_default(default: &str) -> Detail {
        Detail::Column(Column {
            data_type: "text".to_owned(),
            default: Some(default.to_owned()),
            ..Column::default()
        })
    }

    #[test]
    fn what_carries_no_evidence_is_not_compared() {
        let plain =
            catalog([table("t"), column("t", "a", "text"), constraint("t", "t_pkey", "PRIMARY KEY (a)")]);
        let mut other = catalog([table("t"), constraint("t", "t_pkey1", "PRIMARY KEY (a)")]);
        let (id, mut object) = column("t", "a", "text");
        object.comment = Some("said".to_owned());
        let Detail::Column(moved) = &mut object.detail else { unreachable!("a column") };
        moved.position = 7;
        other.insert(id, object);
        assert_ne!(plain, other);
        assert_eq!(plain.digest(), other.digest());
    }

    #[test]
    fn each_property_that_is_compared_changes_the_digest() {
        let base = Column { data_type: "integer".to_owned(), ..Column::default() };
        let some = |text: &str| Some(text.to_owned());
        let variants = [
            Column { data_type: "bigint".to_owned(), ..base.clone() },
            Column { not_null: true, ..base.clone() },
            Column { serial: true, ..base.clone() },
            Column { default: some("1"), ..base.clone() },
            Column { default: some("1"), generated: some("stored"), ..base.clone() },
            Column { default: some("1"), generated: some("virtual"), ..base.clone() },
            Column { identity: some("always"), ..base.clone() },
            Column { identity: some("by default"), ..base.clone() },
            Column { collation: some("pg_catalog.\"C\""), ..base.clone() },
        ];
        let digest = |column: &Column| {
            let id = ObjectId::part(Kind::Column, "public", "t", "a");
            catalog([(id, Object::new(Detail::Column(column.clone())))]).digest()
        };
        let mut seen = std::collections::BTreeSet::from([digest(&base)]);
        for variant in &variants {
            assert!(seen.insert(digest(variant)), "{variant:?}");
        }
    }

    #[test]
    fn views_of_two_majors_are_compared_without_their_queries() {
        let view = |definition: &str, reads: &str| {
            Detail::View(View {
                columns: vec![("n".to_owned(), "bigint".to_owned())],
                reads: vec![reads.to_owned()],
                definition: definition.to_owned(),
                options: None,
            })
        };
        let one = view("SELECT count(*) AS n FROM public.a", "public.a");
        let other = view("SELECT count(a.*) AS n FROM public.a", "public.a");
        assert!(!one.same(&other, false));
        assert!(one.same(&other, true));
        assert!(!one.same(&view("SELECT count(*) AS n FROM public.a", "public.b"), true));
    }

    #[test]
    fn names_read_like_sentences() {
        let mut id = constraint("t", "x", "UNIQUE (a, b)").0;
        assert_eq!(id.to_string(), "UNIQUE (a, b) on t");
        id.schema = "app".to_owned();
        id.occurrence = 1;
        assert_eq!(id.to_string(), "UNIQUE (a, b) on app.t (2 of the same)");
        assert_eq!(column("t", "a", "text").0.to_string(), "column t.a");
        assert_eq!(
            ObjectId::alone(Kind::Function, "public", "f(integer)").to_string(),
            "function f(integer)"
        );
        assert_eq!(ObjectId::alone(Kind::Extension, "", "pg_trgm").to_string(), "extension pg_trgm");
        let index = ObjectId::part(Kind::Index, "public", "t", "btree(a)");
        assert_eq!(index.to_string(), "index btree(a) on t");
    }

    #[test]
    fn an_enum_with_more_labels_stands_for_one_with_fewer_in_the_same_order() {
        let of = |labels: &str| Detail::Enum(Enum { labels: labels.split(' ').map(str::to_owned).collect() });
        for (found, stands) in [("a b", true), ("x a y b z", true), ("b a", false), ("a", false)] {
            assert_eq!(of(found).stands_for(&of("a b"), false), stands, "{found}");
            assert_eq!(of(found).same(&of("a b"), false), found == "a b", "{found}");
        }
    }

    #[test]
    fn a_default_of_the_same_meaning_is_the_same() {
        assert!(with_default("now()").same(&with_default("CURRENT_TIMESTAMP"), false));
        assert!(!with_default("clock_timestamp()").same(&with_default("CURRENT_TIMESTAMP"), false));
    }
}
