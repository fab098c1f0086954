//! The name that a run writes points through, and that its successor takes away (docs/decisions/0031-claims.md).

use super::client::Client;
use super::fault::{Fault, Kind};
use super::fence::unused_id;
use super::licence::licence;
use crate::collection::PointId;
use crate::error::{Error, Result};
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::alias_operations::Action;
use std::collections::BTreeSet;

/// In front of the aliases that runs write through. No survey shows them.
pub(super) const CLAIM_PREFIX: &str = "_tandem_run_";

/// An alias of a collection that only one run writes through. Whoever takes over from it deletes the alias, so that the server
/// refuses what it still writes when it wakes.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub collection: &'a str,
    pub alias: String,
}

impl Client {
    /// Makes the alias. The lock is looked at behind that: if it is still held, the next holder finds the alias and deletes it.
    pub(super) async fn claim<'a>(
        &self,
        collection: &'a str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Claim<'a>> {
        let claim = Claim { collection, alias: format!("{CLAIM_PREFIX}{}", unused_id()) };
        licence(note).await?;
        let create =
            pb::CreateAlias { collection_name: collection.to_owned(), alias_name: claim.alias.clone() };
        self.change_aliases(std::iter::once(Action::CreateAlias(create))).await.map_err(|fault| {
            self.error(fault).at(format_args!("an alias to write points of {collection} through"))
        })?;
        match licence(note).await {
            Ok(()) => Ok(claim),
            Err(lost) => self.release(&claim, Err(lost)).await,
        }
    }

    /// Deletes the alias, whatever was done through it.
    pub(super) async fn release<T>(&self, claim: &Claim<'_>, done: Result<T>) -> Result<T> {
        if let Err(fault) = self.change_aliases(std::iter::once(delete(&claim.alias))).await {
            tracing::debug!("{}: {fault}; the next run deletes it", claim.alias);
        }
        done
    }

    /// Deletes the aliases that earlier runs wrote to these collections through. Who calls holds the lock.
    ///
    /// # Errors
    /// Aliases that cannot be listed or deleted.
    pub async fn take_over(&self, collections: &BTreeSet<&str>) -> Result<()> {
        let at = |fault: Fault| self.error(fault).at("the aliases that an interrupted run wrote through");
        let claims = self.all_aliases().await.map_err(at)?;
        let claims = claims
            .into_iter()
            .filter(|(alias, to)| alias.starts_with(CLAIM_PREFIX) && collections.contains(to.as_str()));
        let mut actions = claims.map(|(alias, _)| delete(&alias)).peekable();
        match actions.peek() {
            None => Ok(()),
            Some(_) => self.change_aliases(actions).await.map_err(at),
        }
    }

    /// Why points could not be written through a claim.
    pub(super) fn unwritten(&self, claim: &Claim<'_>, fault: Fault) -> Error {
        if fault.kind == Kind::NotFound {
            return Error::overtaken(format!(
                "collection {} was taken over by another run, or deleted, while this one wrote its points",
                claim.collection
            ));
        }
        self.error(fault).at(format_args!("writing points of {}", claim.collection))
    }
}

fn delete(alias: &str) -> Action {
    Action::DeleteAlias(pb::DeleteAlias { alias_name: alias.to_owned() })
}
