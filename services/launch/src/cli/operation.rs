//! `upm operation …`, and the progress of an operation that a command began.

use std::{collections::HashMap, io::IsTerminal as _, time::Duration};

use clap::Subcommand;
use comfy_table::Table;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
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
    },
}

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
                            operation.state().as_str_name().to_owned(),
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
        Command::Cancel { name } => {
            client
                .cancel_operation(CancelOperationRequest { name })
                .await?;
            Ok(())
        }
    }
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

/// Follows an operation to its end. A stream that breaks is opened again: the operation goes on without us.
async fn follow(globals: &Globals, channel: Authorized, name: String) -> anyhow::Result<Operation> {
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
                                return ended(globals, operation);
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
    let message = match &operation.result {
        Some(Ended::Error(error)) => error.message.clone(),
        _ => String::new(),
    };
    Err(OperationFailed {
        state: operation.state().as_str_name(),
        name: operation.name,
        message,
    }
    .into())
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
    steps: HashMap<String, (ProgressBar, StepState, String)>,
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
            let (bar, state, shown) = self.steps.entry(step.name.clone()).or_insert_with(|| {
                let bar = match &self.bars {
                    Some(bars) => bars.add(ProgressBar::new_spinner()),
                    None => ProgressBar::hidden(),
                };
                (bar, StepState::Unspecified, String::new())
            });
            if *state == step.state() && *shown == reason {
                continue;
            }
            draw(bar, step, &reason);
            if self.bars.is_none() && step.state() != StepState::StepPending {
                eprintln!("{}", line(step, &reason));
            }
            *state = step.state();
            *shown = reason;
        }
    }

    fn finish(&self) {
        for (bar, _, _) in self.steps.values() {
            if !bar.is_finished() {
                bar.abandon();
            }
        }
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
