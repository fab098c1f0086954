//! Doing one step, and reading back whether the server took it.

use super::client::{Client, within};
use super::convert;
use super::fault::{Fault, Kind};
use crate::collection::{Action, Schema, Stamp, Step, compare};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::Undeclared;
use qdrant_client::qdrant::{self as pb, alias_operations};
use std::time::Duration;

/// Until an update is refused as hanging: servers up to 1.18.0 first stop the optimizers that run.
const UPDATE: Duration = Duration::from_secs(600);

/// Until an index build is refused as hanging.
const BUILD: Duration = Duration::from_secs(6 * 3600);

/// Between two looks at a build that goes on without us.
const POLL: Duration = Duration::from_millis(200);

/// How often a server may ask to come back later.
const ATTEMPTS: u32 = 10;

/// How often a call was put off.
#[derive(Default)]
pub(super) struct Patience(u32);

impl Patience {
    /// Waits as long as the server asks for.
    ///
    /// # Errors
    /// The fault, if it is another one or came too often.
    pub async fn wait(&mut self, fault: Fault) -> std::result::Result<(), Fault> {
        self.0 += 1;
        match fault.kind {
            Kind::Throttled { retry_after } if self.0 < ATTEMPTS => {
                tokio::time::sleep(retry_after.unwrap_or(Duration::from_secs(1))).await;
                Ok(())
            }
            _ => Err(fault),
        }
    }
}

impl Client {
    /// Proves with a call that changes nothing that the API key may manage collections, which every plan needs for its
    /// stamps: found before Postgres is changed, and not behind its commit.
    pub async fn may_manage(&self) -> Result<()> {
        let nothing = pb::ChangeAliases { actions: Vec::new(), timeout: None };
        match self.collections().update_aliases(within(UPDATE, nothing)).await.map_err(Fault::from) {
            Err(fault) if fault.kind == Kind::PermissionDenied => Err(self.error(fault)),
            _ => Ok(()),
        }
    }

    /// Lets an alias lead to a collection, whether it existed or led elsewhere: one call, so that readers find the one or
    /// the other and never neither. Reads it back.
    pub async fn set_alias(&self, alias: &str, collection: &str) -> Result<()> {
        self.set_aliases([alias], collection).await
    }

    /// The same for several, all in one call.
    pub async fn set_aliases<'a>(
        &self,
        aliases: impl IntoIterator<Item = &'a str>,
        collection: &str,
    ) -> Result<()> {
        let wanted: Vec<&str> = aliases.into_iter().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let create = |alias: &&str| {
            alias_operations::Action::CreateAlias(pb::CreateAlias {
                collection_name: collection.into(),
                alias_name: (*alias).into(),
            })
        };
        let place = format!("alias {} to {collection}", wanted.join(", "));
        self.change_aliases(wanted.iter().map(create)).await.map_err(|fault| self.error(fault).at(&place))?;
        let aliases = self.survey(&[]).await?.aliases;
        match wanted.iter().all(|alias| aliases.get(*alias).is_some_and(|leads_to| leads_to == collection)) {
            true => Ok(()),
            false => Err(Error::new(
                ExitCode::StepFailed,
                format!("{place}: the server accepted it, and the alias leads elsewhere"),
            )
            .remedy("find out what else changes aliases on this server, then run again")),
        }
    }

    /// All in one call.
    pub(super) async fn change_aliases(
        &self,
        actions: impl Iterator<Item = alias_operations::Action>,
    ) -> std::result::Result<(), Fault> {
        let actions = actions.map(|action| pb::AliasOperations { action: Some(action) }).collect();
        let request = pb::ChangeAliases { actions, timeout: None };
        self.patiently(async || {
            self.collections().update_aliases(within(UPDATE, request.clone())).await?;
            Ok(())
        })
        .await
    }

    /// Deletes a collection by its real name, which takes its aliases along, and proves that it is gone. Who calls has made
    /// sure that it may go.
    pub async fn delete_collection(&self, name: &str) -> Result<()> {
        let request = pb::DeleteCollection { collection_name: name.to_owned(), timeout: None };
        self.patiently(async || {
            self.collections().delete(within(UPDATE, request.clone())).await?;
            Ok(())
        })
        .await
        .map_err(|fault| self.error(fault).at(format_args!("deleting collection {name}")))?;
        match self.inspect(name).await? {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ExitCode::StepFailed,
                format!("collection {name} was deleted and is still there"),
            )
            .remedy("look at the server's log, then run again")),
        }
    }

    /// Does one step and reads it back. Done twice it ends the same. Those that take long are done by [`Client::fill`] and
    /// [`Client::rebuild`], with a journal.
    ///
    /// # Errors
    /// What the server refused, or what it accepted and did not take, by collection and field.
    pub async fn perform(&self, step: &Step) -> Result<()> {
        let name = step.collection.as_str();
        let failed = |fault: Fault| self.error(fault).at(step);
        match &step.action {
            Action::Create { schema, stamp } => self.create(step, schema, stamp).await,
            Action::Update { schema, .. } => {
                self.update(convert::update_collection(name, schema)).await.map_err(failed)?;
                self.read_back(step, schema).await
            }
            Action::CreateIndex { field, index, .. } => {
                let request = convert::create_field_index(name, field, index);
                let reply = self
                    .patiently(async || {
                        let reply = self.points().create_field_index(within(BUILD, request.clone())).await?;
                        Ok(reply.into_inner())
                    })
                    .await
                    .map_err(failed)?;
                self.await_build(step, reply).await?;
                let wanted =
                    Schema { payload_indexes: [(field.clone(), index.clone())].into(), ..Schema::default() };
                self.read_back(step, &wanted).await
            }
            Action::DeleteIndex { field } => {
                let request = pb::DeleteFieldIndexCollection {
                    collection_name: name.to_string(),
                    wait: Some(true),
                    field_name: field.clone(),
                    ordering: None,
                    timeout: None,
                };
                let reply = self
                    .patiently(async || {
                        let reply = self.points().delete_field_index(within(BUILD, request.clone())).await?;
                        Ok(reply.into_inner())
                    })
                    .await
                    .map_err(failed)?;
                self.await_build(step, reply).await?;
                match self.existing(step).await?.schema.payload_indexes.contains_key(field) {
                    true => Err(not_taken(step, &["the index is still there".into()])),
                    false => Ok(()),
                }
            }
            Action::CreateVector { schema, .. } => self.create_vectors(step, schema).await,
            Action::DeleteVector { vector } => self.delete_vector(step, vector).await,
            Action::SetAlias { alias } => self.set_alias(alias, name).await.map_err(|error| error.at(step)),
            Action::Fill { .. } | Action::Rebuild { .. } => Err(Error::new(
                ExitCode::Bug,
                format!("{step}: this is done beside the journal, by Client::fill and Client::rebuild"),
            )),
            Action::OpenFence => self.open_fence(name).await,
            Action::Stamp { stamp } => self.stamp(step, stamp).await,
        }
    }

    /// A new vector is created with what its points must know; the rest follows as an update.
    async fn create_vectors(&self, step: &Step, schema: &Schema) -> Result<()> {
        let at = |fault: Fault| self.error(fault).at(step);
        for request in convert::create_vector_names(&step.collection, schema) {
            let reply = self
                .patiently(async || {
                    Ok(self.points().create_vector_name(within(UPDATE, request.clone())).await?.into_inner())
                })
                .await
                .map_err(at)?;
            self.await_build(step, reply).await?;
        }
        self.update(convert::update_collection(&step.collection, schema)).await.map_err(at)?;
        self.read_back(step, schema).await
    }

    /// Irreversible, so that a snapshot comes first.
    async fn delete_vector(&self, step: &Step, vector: &str) -> Result<()> {
        let has = |schema: &Schema| {
            schema.vectors.contains_key(vector) || schema.sparse_vectors.contains_key(vector)
        };
        if !has(&self.existing(step).await?.schema) {
            return Ok(());
        }
        let snapshot = self.create_snapshot(&step.collection).await.map_err(|error| error.at(step))?;
        tracing::info!(
            snapshot = snapshot.name,
            "Took a snapshot of {} before deleting its vector {vector}",
            step.collection
        );
        let request = pb::DeleteVectorNameRequest {
            collection_name: step.collection.clone(),
            wait: Some(true),
            vector_name: vector.to_owned(),
            timeout: None,
            ordering: None,
        };
        let reply = self
            .patiently(async || {
                Ok(self.points().delete_vector_name(within(UPDATE, request.clone())).await?.into_inner())
            })
            .await
            .map_err(|fault| self.error(fault).at(step))?;
        self.await_build(step, reply).await?;
        match has(&self.existing(step).await?.schema) {
            true => Err(not_taken(step, &["the vector is still there".into()])),
            false => Ok(()),
        }
    }

    /// Somebody else may have created the collection in between: then it is as wanted, or the next run compares it.
    async fn create(&self, step: &Step, schema: &Schema, stamp: &Stamp) -> Result<()> {
        let mut stamped = schema.clone();
        stamp.put(&mut stamped);
        let request = convert::create_collection(&step.collection, &stamped);
        let created = self
            .patiently(async || {
                Ok(self.collections().create(within(UPDATE, request.clone())).await?.into_inner())
            })
            .await;
        match created {
            Ok(_) => {}
            Err(fault) if fault.kind == Kind::AlreadyExists => {}
            Err(fault) => return Err(self.error(fault).at(step)),
        }
        self.read_back(step, schema).await?;
        match self.existing(step).await?.stamp {
            Some(found) if found == *stamp => Ok(()),
            None => self.stamp(step, stamp).await,
            // A run that was paused here may have been succeeded.
            Some(_) => Err(Error::overtaken(format!(
                "collection {} was stamped by another run while this one created it",
                step.collection
            ))),
        }
    }

    async fn stamp(&self, step: &Step, stamp: &Stamp) -> Result<()> {
        let mut schema = Schema::default();
        stamp.put(&mut schema);
        let request = convert::update_collection(&step.collection, &schema);
        self.update(request).await.map_err(|fault| self.error(fault).at(step))?;
        match self.existing(step).await?.stamp {
            Some(found) if found == *stamp => Ok(()),
            found => Err(not_taken(step, &[format!("the stamp is {found:?}")])),
        }
    }

    pub(super) async fn update(&self, request: pb::UpdateCollection) -> std::result::Result<(), Fault> {
        self.patiently(async || {
            self.collections().update(within(UPDATE, request.clone())).await?;
            Ok(())
        })
        .await
    }

    /// Sends again what the server puts off. Every step may be sent again.
    pub(super) async fn patiently<T>(
        &self,
        send: impl AsyncFn() -> std::result::Result<T, Fault>,
    ) -> std::result::Result<T, Fault> {
        let mut patience = Patience::default();
        loop {
            match send().await {
                Ok(answer) => return Ok(answer),
                Err(fault) => patience.wait(fault).await?,
            }
        }
    }

    /// Servers from 1.18 on answer after a minute although the build goes on; they also tell what is queued.
    async fn await_build(&self, step: &Step, reply: pb::PointsOperationResponse) -> Result<()> {
        let done = reply.result.is_some_and(|result| result.status() == pb::UpdateStatus::Completed);
        if done {
            return Ok(());
        }
        let queue_is_empty = async || loop {
            if self.existing(step).await?.queued_updates.unwrap_or_default() == 0 {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        };
        match tokio::time::timeout(BUILD, queue_is_empty()).await {
            Ok(result) => result,
            Err(_) => Err(not_taken(step, &["the update is still queued".into()])),
        }
    }

    async fn existing(&self, step: &Step) -> Result<crate::collection::Observed> {
        self.inspect(&step.collection).await?.ok_or_else(|| {
            Error::new(ExitCode::StepFailed, "the collection is gone")
                .at(step)
                .remedy("find out what deletes collections on this server while tandem runs")
        })
    }

    /// A server that does not know a field drops it without an error, so that only reading back proves a change.
    async fn read_back(&self, step: &Step, wanted: &Schema) -> Result<()> {
        let (server, observed) = tokio::join!(self.version(), self.existing(step));
        let server = server.map_err(|fault| self.error(fault).at(step))?;
        let left = compare(wanted, &observed?, Undeclared::default(), server);
        match left.is_empty() {
            true => Ok(()),
            false => Err(not_taken(step, &left.iter().map(ToString::to_string).collect::<Vec<_>>())),
        }
    }
}

fn not_taken(step: &Step, left: &[String]) -> Error {
    let left: String = left.iter().map(|change| format!("\n  {change}")).collect();
    Error::new(ExitCode::StepFailed, format!("{step}: the server accepted it and did not take:{left}"))
        .expected("what was sent, read back")
        .remedy("run again; if it stays, upgrade Qdrant or leave the field out of the declaration")
}
