//! `upm operation …`, and the progress of an operation that a command began.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use clap::Subcommand;
use comfy_table::Table;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use upm_mesh::status;
use upm_proto::operation::v1::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation, OperationState,
    Step, StepState, WatchOperationRequest, operation::Result as Ended,
    operation_service_client::OperationServiceClient,
};

use super::{
    Globals,
    exit::OperationFailed,
    output::{self, Format},
    session::Authorized,
};

/// Durable operations.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List operations of a module, newest first.
    List {
        /// Module, for example `redis`.
        module: String,
        /// Filter, for example `state=RUNNING`.
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Show one operation with its steps.
    Get {
        /// `operations/{module}/{operation}`.
        name: String,
    },
    /// Follow an operation to its end; the exit code is 7 when it does not succeed.
    Watch {
        /// `operations/{module}/{operation}`.
        name: String,
    },
    /// Stop an operation and undo what it did.
    Cancel {
        /// `operations/{module}/{operation}`.
        name: String,
        /// Return when the cancellation is accepted.
        #[arg(long)]
        no_wait: bool,
    },
}

/// A renewed token that is refused as often in a row is not renewed again.
const RENEWALS: u64 = 3;
const OPERATION: &str = "upm.operation.v1.Operation";

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let channel = globals.open().await?;
    let mut client = OperationServiceClient::new(channel.clone());
    match command {
        Command::List { module, filter } => {
            let mut all = upm_proto::operation::v1::ListOperationsResponse::default();
            loop {
                let page = client
                    .list_operations(ListOperationsRequest {
                        name: format!("operations/{module}"),
                        filter: filter.clone(),
                        page_size: 500,
                        page_token: all.next_page_token.clone(),
                    })
                    .await?
                    .into_inner();
                all.operations.extend(page.operations);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            output::print(
                globals.output,
                "upm.operation.v1.ListOperationsResponse",
                &all,
                |all| {
                    let mut table =
                        output::table(["NAME", "KIND", "TARGET", "STATE", "PROGRESS", "AGE"]);
                    for operation in &all.operations {
                        table.add_row([
                            operation.name.clone(),
                            operation.kind.clone(),
                            operation.target.clone(),
                            output::word(operation.state().as_str_name()).to_owned(),
                            format!("{}%", operation.progress_percent),
                            output::age(operation.create_time.as_ref()),
                        ]);
                    }
                    table
                },
            )
        }
        Command::Get { name } => {
            let operation = client
                .get_operation(GetOperationRequest { name })
                .await?
                .into_inner();
            output::print(globals.output, OPERATION, &operation, steps)
        }
        Command::Watch { name } => {
            follow(globals, channel, name).await?;
            Ok(())
        }
        Command::Cancel { name, no_wait } => cancel(globals, channel, name, !no_wait).await,
    }
}

/// Cancels an operation and shows what is undone, to the end when `wait` is set.
pub(crate) async fn cancel(
    globals: &Globals,
    channel: Authorized,
    name: String,
    wait: bool,
) -> anyhow::Result<()> {
    let mut client = OperationServiceClient::new(channel.clone());
    client
        .cancel_operation(CancelOperationRequest { name: name.clone() })
        .await?;
    let operation = if wait {
        followed(globals, channel, name).await?
    } else {
        let request = GetOperationRequest { name };
        client.get_operation(request).await?.into_inner()
    };
    output::print(globals.output, OPERATION, &operation, steps)?;
    let undone = matches!(
        operation.state(),
        OperationState::Cancelled | OperationState::RolledBack
    );
    if undone || !operation.done {
        return Ok(());
    }
    Err(not_succeeded(operation).into())
}

/// Shows an operation that a command began: the plan of a dry run, the name when nobody waits, or its progress.
pub(crate) async fn settle(
    globals: &Globals,
    channel: Authorized,
    operation: Operation,
    wait: bool,
) -> anyhow::Result<()> {
    if operation.name.is_empty() || !wait {
        return output::print(globals.output, OPERATION, &operation, steps);
    }
    if operation.done {
        return ended(globals, operation).map(drop);
    }
    follow(globals, channel, operation.name).await.map(drop)
}

/// Follows an operation to its end, which is an error when it is no success.
async fn follow(globals: &Globals, channel: Authorized, name: String) -> anyhow::Result<Operation> {
    ended(globals, followed(globals, channel, name).await?)
}

/// Follows an operation to its end. A stream that breaks is opened again, with a new token when the old one has ended: the operation goes on
/// without us.
async fn followed(
    globals: &Globals,
    mut channel: Authorized,
    name: String,
) -> anyhow::Result<Operation> {
    let mut display = Display::new(globals.output);
    let mut failures = 0;
    loop {
        let mut client = OperationServiceClient::new(channel.clone());
        let request = WatchOperationRequest { name: name.clone() };
        let failure = match client.watch_operation(request).await {
            Ok(answer) => {
                let mut stream = answer.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(operation)) => {
                            failures = 0;
                            display.show(&operation);
                            if operation.done {
                                display.finish();
                                return Ok(operation);
                            }
                        }
                        Ok(None) => break tonic::Status::unavailable("the stream ended"),
                        Err(status) => break status,
                    }
                }
            }
            Err(status) => status,
        };
        failures += 1;
        if status::reason(&failure).as_deref() == Some("TOKEN_EXPIRED") && failures <= RENEWALS {
            channel = globals.open_fresh().await?;
            continue;
        }
        let transient = matches!(
            failure.code(),
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled
        );
        if !transient || failures > 20 {
            display.finish();
            return Err(anyhow::Error::new(failure).context(format!("watch {name}")));
        }
        tokio::time::sleep(Duration::from_millis(250 * failures)).await;
    }
}

fn ended(globals: &Globals, operation: Operation) -> anyhow::Result<Operation> {
    if globals.output != Format::Table {
        output::print(globals.output, OPERATION, &operation, steps)?;
    }
    if operation.state() == OperationState::Succeeded {
        return Ok(operation);
    }
    Err(not_succeeded(operation).into())
}

fn not_succeeded(operation: Operation) -> OperationFailed {
    let message = match &operation.result {
        Some(Ended::Error(error)) => error.message.clone(),
        Some(Ended::Response(_)) | None => String::new(),
    };
    OperationFailed {
        state: operation.state().as_str_name(),
        name: operation.name,
        message,
    }
}

fn steps(operation: &Operation) -> Table {
    let mut table = output::table(["STEP", "STATE", "EXPECTED", "DESCRIPTION"]);
    for step in &operation.steps {
        table.add_row([
            step.name.clone(),
            step.state()
                .as_str_name()
                .trim_start_matches("STEP_")
                .to_owned(),
            step.expected_duration
                .map_or_else(|| "-".to_owned(), |d| format!("{}s", d.seconds)),
            match reason(step) {
                Some(reason) => format!("{} — {reason}", step.description),
                None => step.description.clone(),
            },
        ]);
    }
    if !operation.risk.is_empty() {
        table.add_row(["", "", "", &format!("Risk: {}", operation.risk)]);
    }
    table
}

/// What the step waits for.
fn reason(step: &Step) -> Option<&str> {
    step.predicates
        .iter()
        .find(|p| !p.satisfied)
        .map(|p| p.reason.as_str())
}

/// Bars on a terminal, one line per change elsewhere (standard error, so that `-o json` stays clean).
struct Display {
    bars: Option<MultiProgress>,
    steps: HashMap<String, Shown>,
}

/// A step as it was shown last.
struct Shown {
    bar: ProgressBar,
    state: StepState,
    /// What the step waits for, in words, and the name of that.
    reason: String,
    predicate: String,
    /// When it began, as far as this process saw it.
    since: Instant,
}

impl Display {
    fn new(format: Format) -> Self {
        let bars =
            (std::io::stderr().is_terminal() && format == Format::Table).then(MultiProgress::new);
        Self {
            bars,
            steps: HashMap::new(),
        }
    }

    fn show(&mut self, operation: &Operation) {
        for step in &operation.steps {
            let reason = reason(step).unwrap_or_default().to_owned();
            let shown = self
                .steps
                .entry(step.name.clone())
                .or_insert_with(|| Shown {
                    bar: match &self.bars {
                        Some(bars) => bars.add(ProgressBar::new_spinner()),
                        None => ProgressBar::hidden(),
                    },
                    state: StepState::Unspecified,
                    reason: String::new(),
                    predicate: String::new(),
                    since: Instant::now(),
                });
            if shown.state == step.state() && shown.reason == reason {
                continue;
            }
            draw(&shown.bar, step, &reason);
            if let Some(text) = shown.change(step, &reason)
                && self.bars.is_none()
            {
                eprintln!("{text}");
            }
            shown.reason = reason;
        }
    }

    fn finish(&self) {
        for shown in self.steps.values() {
            if !shown.bar.is_finished() {
                shown.bar.abandon();
            }
        }
    }
}

impl Shown {
    /// The line that a log gets: one for each state, with the time that the one before took, and one when something else is waited for. The
    /// numbers within a reason change all the time and are no change.
    fn change(&mut self, step: &Step, reason: &str) -> Option<String> {
        let predicate = step.predicates.iter().find(|p| !p.satisfied);
        let predicate = predicate.map(|p| p.name.clone()).unwrap_or_default();
        let state = std::mem::replace(&mut self.state, step.state());
        let other = std::mem::replace(&mut self.predicate, predicate) != self.predicate;
        if state == step.state() && (!other || self.predicate.is_empty()) {
            return None;
        }
        if state != step.state() && step.state() == StepState::StepRunning {
            self.since = Instant::now();
        }
        if step.state() == StepState::StepPending {
            return None;
        }
        let text = line(step, reason);
        if step.state() == StepState::StepRunning || state == StepState::Unspecified {
            return Some(text);
        }
        Some(format!(
            "{text} ({:.1} s)",
            self.since.elapsed().as_secs_f64()
        ))
    }
}

fn line(step: &Step, reason: &str) -> String {
    let state = step
        .state()
        .as_str_name()
        .trim_start_matches("STEP_")
        .to_lowercase();
    if reason.is_empty() {
        format!("{:<28} {state}", step.name)
    } else {
        format!("{:<28} {state}: {reason}", step.name)
    }
}

fn draw(bar: &ProgressBar, step: &Step, reason: &str) {
    let mark = match step.state() {
        StepState::StepDone => "✓",
        StepState::StepFailed => "✗",
        StepState::StepSkipped => "–",
        StepState::StepUndone => "↺",
        StepState::StepRunning => "{spinner}",
        StepState::StepPending | StepState::Unspecified => "·",
    };
    let template = format!(" {mark} {{prefix:<28}} {{wide_msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_prefix(step.name.clone());
    bar.set_message(if reason.is_empty() {
        step.description.clone()
    } else {
        reason.to_owned()
    });
    match step.state() {
        StepState::StepRunning => bar.enable_steady_tick(Duration::from_millis(120)),
        StepState::StepPending | StepState::Unspecified => bar.tick(),
        StepState::StepDone
        | StepState::StepFailed
        | StepState::StepSkipped
        | StepState::StepUndone => bar.abandon(),
    }
}

#[cfg(test)]
mod tests;
