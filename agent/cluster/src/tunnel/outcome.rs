//! How a command ended, as the API server says it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use upm_proto::hub::v1 as pb;

use super::refused;

/// The exit code in the last message of a command's connection.
///
/// # Errors
/// `COMMAND_NOT_STARTED` with the API server's words when there is none.
pub(super) fn exit_code(status: &[u8]) -> Result<i32, pb::Error> {
    let not_started = |words: String| refused("COMMAND_NOT_STARTED", words);
    let status: Status = serde_json::from_slice(status)
        .map_err(|_| not_started("the API server does not say how the command ended".into()))?;
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let code = status
        .details
        .iter()
        .filter(|_| status.reason.as_deref() == Some("NonZeroExitCode"))
        .flat_map(|details| details.causes.iter().flatten())
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_deref()?.parse().ok());
    code.ok_or_else(|| not_started(status.message.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: serde_json::Value) -> Result<i32, pb::Error> {
        exit_code(status.to_string().as_bytes())
    }

    #[test]
    fn success_is_zero_and_a_failure_has_the_code_of_the_command() {
        assert_eq!(of(json!({"metadata": {}, "status": "Success"})).unwrap(), 0);
        let failed = json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 3",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        });
        assert_eq!(of(failed).unwrap(), 3);
    }

    #[test]
    fn a_command_that_could_not_be_started_says_why() {
        let failed = json!({
            "status": "Failure", "reason": "InternalError", "message": "exec: \"nothing\": executable file not found in $PATH",
            "details": {"causes": [{"message": "7"}]},
        });
        let error = of(failed).unwrap_err();
        assert_eq!(error.reason, "COMMAND_NOT_STARTED");
        assert!(error.message.contains("not found"), "{}", error.message);
        assert!(exit_code(b"nonsense").is_err());
    }
}
