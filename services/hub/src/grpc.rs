//! The gRPC rim.

mod admin;
mod agent;
mod inventory;
mod ledger;
mod route;
mod unit;
mod watch;

use tonic::service::Routes;
use upm_proto::{
    hub::v1::{
        agent_admin_service_server::AgentAdminServiceServer,
        agent_service_server::AgentServiceServer, ledger_service_server::LedgerServiceServer,
    },
    ledger::limits,
};

use crate::Hub;

/// A frame with everything around it.
const MESSAGE: usize = 4 * limits::FRAME_BYTES;
/// A hundred intents of 1 MiB do not fit in one message; few large or many small ones do.
const LEDGER_MESSAGE: usize = 16 * 1024 * 1024;

/// What the mesh sees.
pub(crate) fn mesh_routes(hub: &Hub) -> Routes {
    Routes::new(
        LedgerServiceServer::new(ledger::Ledger(hub.clone()))
            .max_decoding_message_size(LEDGER_MESSAGE)
            .max_encoding_message_size(LEDGER_MESSAGE),
    )
    .add_service(AgentAdminServiceServer::new(admin::Admin(hub.clone())))
}

/// What agents see.
pub(crate) fn agent_routes(hub: &Hub) -> Routes {
    Routes::new(
        AgentServiceServer::new(agent::Agents::new(hub.clone())).max_decoding_message_size(MESSAGE),
    )
}
