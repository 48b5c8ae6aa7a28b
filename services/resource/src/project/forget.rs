//! What becomes of a deleted project elsewhere: its roles are taken away, and the clusters are told to keep nothing of it in force.

use std::time::Duration;

use tokio::time::sleep;
use upm_mesh::{Channel, Context, Drain};
use upm_proto::auth::v1::{ForgetProjectRequest, policy_service_client::PolicyServiceClient};
use upm_store::Store;

use super::model;
use crate::{Error, cluster};

/// How soon again when another module did not answer.
const AGAIN: Duration = Duration::from_secs(2);
/// How long one project may take.
const LIMIT: Duration = Duration::from_secs(8);

/// Tells other modules of deleted projects. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forgetter {
    store: Store,
    auth: Channel,
    hub: Channel,
}

impl Forgetter {
    pub(crate) fn new(store: Store, auth: Channel, hub: Channel) -> Self {
        Self { store, auth, hub }
    }

    /// Goes on with what was begun, until the process drains.
    pub(crate) async fn follow(self, drain: Drain) {
        loop {
            let ctx = Context::internal("resource.forget-projects");
            let ended = tokio::select! {
                () = drain.signalled() => return,
                ended = self.run(&ctx) => ended,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "A deleted project is not forgotten everywhere yet");
            }
            tokio::select! {
                () = drain.signalled() => return,
                () = sleep(AGAIN) => {}
            }
        }
    }

    /// Tells of every deleted project that somebody still knows. Its id is free after that.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<(), Error> {
        // The rights to do this are the module's, not those of who deleted the project.
        let ctx = Context::internal("resource").in_trace(&ctx.traceparent);
        let deleted = self
            .store
            .read("resource.project.deleted", model::deleted)
            .await?;
        for (uid, id) in deleted {
            let ctx = ctx.clone().within(LIMIT);
            let request = ForgetProjectRequest {
                project: format!("projects/{id}"),
                project_uid: uid.clone(),
            };
            PolicyServiceClient::new(self.auth.clone())
                .forget_project(ctx.forward(request))
                .await
                .map_err(Error::Auth)?;
            cluster::shared::forget_project(self.hub.clone(), &ctx, &id).await?;
            self.store
                .transact("resource.project.forgotten", move |conn| {
                    model::forgotten(conn, &uid)
                })
                .await?;
        }
        Ok(())
    }
}
