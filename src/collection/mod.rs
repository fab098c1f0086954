//! A Qdrant collection's configuration and payload indexes as plain data, and what it takes to change one into another.

mod compare;
mod contradiction;
mod fence;
mod fill;
mod observed;
mod point;
mod rebuild;
mod schema;
mod step;
mod target;
mod version;

pub use compare::{CREATE_VECTOR_NAME, Change, DELETE_VECTOR_NAME, Kind, Section, between, compare, gates};
pub use contradiction::{Contradiction, contradictions, fill_contradictions, shared_aliases};
pub use fence::Fence;
pub use fill::{
    Answers, Difference, Due, Made, Refusals, Refused, Shape, VectorSource, due, effective, fillable, narrow,
    storable, touched, transform,
};
pub use observed::*;
pub use point::{Point, PointId, Vector};
pub use rebuild::{
    BACK, COPYING, KEPT, OPEN, Rebuild, Stage, Subject as RebuildSubject, Switch, VERIFIED, copyable,
    kept_behind_a_fence, rebuild,
};
pub use schema::*;
pub use step::{Action, Step, add_fill, creation, in_place, no_shadow, steps};
pub use target::{SHADOW_PREFIX, Target, expand};
pub use version::{MINIMUM, NotAVersion, ServerVersion};

use sha2::{Digest, Sha256};

/// Hex SHA-256 of a declared schema's JSON with sorted keys: equal for schemas that declare the same, however they are
/// written.
pub fn digest(schema: &Schema) -> String {
    let json = serde_json::to_value(schema).expect("a schema is text keys, text, numbers and flags");
    Sha256::digest(json.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_what_is_declared_and_not_on_how() {
        let digest = |toml: &str| digest(&toml::from_str(toml).unwrap());
        let one = digest(
            "on_disk_payload = true\nmetadata = { x = { a = 1, b = 2 } }\npayload_indexes = { k = 'keyword' }",
        );
        let other = digest(
            "payload_indexes = { k = { type = 'keyword' } }\nmetadata = { x = { b = 2, a = 1 } }\non_disk_payload = true",
        );
        assert_eq!(one, other);
        assert_eq!(one.len(), 64);
        assert_ne!(one, digest("on_disk_payload = false"));
        assert_eq!(digest(""), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }
}
