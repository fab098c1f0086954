//! Which real collections a timeline's declarations are about.

use crate::error::{Error, ExitCode, Result};
use crate::timeline::CollectionDeclaration;
use std::collections::{BTreeMap, BTreeSet};

/// What the name of a collection that a rebuild fills begins with. No pattern matches one by its real name; an alias
/// may lead to one that has become the live collection.
pub const SHADOW_PREFIX: &str = "_tandem_shadow_";

/// A collection to bring to a declared schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name or alias by which it was found, or the name to create it under.
    pub declared: String,
    /// Where aliases lead; the same as `declared` without one.
    pub real: String,
    pub exists: bool,
    /// Create it if it does not exist.
    pub ensure: bool,
    /// Index of the declaration.
    pub declaration: usize,
}

/// Expands the declarations over the real names and the aliases (alias → real name): each real collection once, for
/// the first declaration that matches it, in the order of declarations and names.
///
/// # Errors
/// A pattern without `all_collections`.
pub fn expand(
    declarations: &[CollectionDeclaration],
    names: &BTreeSet<String>,
    aliases: &BTreeMap<String, String>,
    all_collections: bool,
) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |declared: &str, ensure: bool, declaration: usize| {
        let real = aliases.get(declared).map_or(declared, String::as_str);
        match targets.iter_mut().find(|target| target.real == real) {
            Some(target) => target.ensure |= ensure,
            None => targets.push(Target {
                declared: declared.to_string(),
                real: real.to_string(),
                exists: names.contains(real),
                ensure,
                declaration,
            }),
        }
    };
    for (i, declaration) in declarations.iter().enumerate() {
        if declaration.is_pattern() && !all_collections {
            let pattern = &declaration.matching;
            return Err(Error::new(
                ExitCode::Configuration,
                format!("`match = \"{pattern}\"` is a pattern and may cover other applications' collections"),
            )
            .expected("one exact name, for example from QDRANT_COLLECTION_NAME")
            .remedy("set the variable that the name comes from, or add --all-collections"));
        }
        let real = names.iter().filter(|name| !name.starts_with(SHADOW_PREFIX));
        for name in real.chain(aliases.keys()).filter(|name| declaration.matches(name)) {
            add(name, declaration.ensure.contains(name), i);
        }
        for name in &declaration.ensure {
            add(name, true, i);
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Schema;
    use crate::timeline::Undeclared;

    fn declaration(matching: &str, ensure: &[&str]) -> CollectionDeclaration {
        CollectionDeclaration {
            matching: matching.into(),
            ensure: ensure.iter().map(ToString::to_string).collect(),
            schema: Schema::default(),
            undeclared: Undeclared::default(),
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// `declared→real`, with `+` if it exists and `!` if it is to be ensured.
    fn targets(
        declarations: &[CollectionDeclaration],
        real: &[&str],
        aliases: &[(&str, &str)],
        all: bool,
    ) -> Vec<String> {
        let aliases = aliases.iter().map(|(a, r)| (a.to_string(), r.to_string())).collect();
        expand(declarations, &names(real), &aliases, all)
            .unwrap()
            .into_iter()
            .map(|t| {
                let mark = |set: bool, mark: &'static str| if set { mark } else { "" };
                let arrow = if t.declared == t.real { String::new() } else { format!("→{}", t.real) };
                format!(
                    "{}:{}{arrow}{}{}",
                    t.declaration,
                    t.declared,
                    mark(t.exists, "+"),
                    mark(t.ensure, "!")
                )
            })
            .collect()
    }

    #[test]
    fn exact_names_find_real_collections_and_aliases() {
        let bot = [declaration("bot", &["bot"])];
        assert_eq!(targets(&bot, &[], &[], false), ["0:bot!"]);
        assert_eq!(targets(&bot, &["bot", "other"], &[], false), ["0:bot+!"]);
        assert_eq!(targets(&bot, &["bot_7d"], &[("bot", "bot_7d")], false), ["0:bot→bot_7d+!"]);
        assert_eq!(targets(&[declaration("bot", &[])], &["other"], &[], false), [""; 0]);
    }

    #[test]
    fn a_pattern_covers_each_real_collection_once() {
        let all = [declaration("memory*", &["memory_a"])];
        assert_eq!(
            targets(&all, &["memory_a", "memory_b_7d", "x"], &[("memory_b", "memory_b_7d")], true),
            ["0:memory_a+!", "0:memory_b_7d+"]
        );
        // Found by its alias only.
        assert_eq!(targets(&all, &["x"], &[("memory_b", "x")], true), ["0:memory_b→x+", "0:memory_a!"]);
    }

    #[test]
    fn shadows_are_matched_only_through_an_alias() {
        let all = [declaration("*", &[])];
        let shadow = "_tandem_shadow_1";
        assert_eq!(targets(&all, &[shadow, "a"], &[], true), ["0:a+"]);
        assert_eq!(targets(&all, &[shadow], &[("a", shadow)], true), ["0:a→_tandem_shadow_1+"]);
    }

    #[test]
    fn the_first_matching_declaration_wins() {
        let both = [declaration("memory_a", &[]), declaration("memory*", &["memory_a"])];
        assert_eq!(targets(&both, &["memory_a", "memory_b"], &[], true), ["0:memory_a+!", "1:memory_b+"]);
    }

    #[test]
    fn a_pattern_alone_is_refused() {
        let error = expand(&[declaration("memory*", &[])], &names(&[]), &BTreeMap::new(), false).unwrap_err();
        assert_eq!(error.code, ExitCode::Configuration);
        assert!(error.to_string().contains("memory*") && error.to_string().contains("--all-collections"));
    }
}
