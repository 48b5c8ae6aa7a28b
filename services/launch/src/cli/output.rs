//! How answers are shown: tables for people, JSON and YAML for programs.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    sync::LazyLock,
};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

/// The form of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// proto3 JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(upm_proto::DESCRIPTOR_SET).expect("the built-in descriptors decode")
});

/// Prints a message of the given full name, or the rows that `table` makes.
pub(crate) fn print<M: Message>(
    format: Format,
    full_name: &str,
    message: &M,
    table: impl FnOnce(&M) -> Table,
) -> anyhow::Result<()> {
    match format {
        Format::Table => line(&table(message).to_string()),
        Format::Json => line(&serde_json::to_string_pretty(&json(full_name, message)?)?),
        Format::Yaml => line(serde_yaml::to_string(&json(full_name, message)?)?.trim_end()),
    }
}

/// proto3 JSON of a message.
pub(crate) fn json<M: Message>(full_name: &str, message: &M) -> anyhow::Result<serde_json::Value> {
    let descriptor = POOL
        .get_message_by_name(full_name)
        .with_context(|| format!("{full_name} is not in the descriptors"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    Ok(dynamic.serialize_with_options(
        serde_json::value::Serializer,
        &SerializeOptions::new().skip_default_fields(true),
    )?)
}

/// All items of a list, from page to page. `page` asks with a page token, which is empty for the first, and answers items and the next token.
pub(crate) async fn pages<T>(
    mut page: impl AsyncFnMut(String) -> anyhow::Result<(Vec<T>, String)>,
) -> anyhow::Result<Vec<T>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (items, next) = page(token).await?;
        all.extend(items);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// A table in the style of `kubectl`.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    // Messages of schedulers are longer than any terminal; a pipe gets whole lines.
    if let Some(width) = width() {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    table.set_header(header);
    table
}

/// Columns of the terminal that is standard output; `None` for a file or a pipe.
fn width() -> Option<u16> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out.as_fd()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// A value of an enum for people: `-` for the one that says nothing.
pub(crate) fn word(name: &str) -> &str {
    if name.ends_with("_UNSPECIFIED") {
        "-"
    } else {
        name
    }
}

/// Writes a line to standard output; a closed pipe is no error.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes bytes as they are to standard output; a closed pipe is no error.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The last part of a resource name.
pub(crate) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// How long ago a time was, as `kubectl` writes it.
pub(crate) fn age(time: Option<&prost_types::Timestamp>) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    let seconds = (now_seconds() - time.seconds).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn now_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_is_read_to_its_last_page() {
        let all = pages(async |token| match token.as_str() {
            "" => Ok((vec![1, 2], "a".to_owned())),
            "a" => Ok((vec![], "b".to_owned())),
            _ => Ok((vec![3], String::new())),
        })
        .await
        .unwrap();
        assert_eq!(all, [1, 2, 3]);
    }

    #[test]
    fn an_enum_that_says_nothing_is_a_dash() {
        assert_eq!(word("MEMBER_ROLE_UNSPECIFIED"), "-");
        assert_eq!(word("PRIMARY"), "PRIMARY");
    }

    #[test]
    fn a_long_cell_is_wrapped_to_the_width() {
        let mut table = table(["A", "B"]);
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(60);
        table.add_row(["x", &"0/1 nodes are available ".repeat(20)]);
        let longest = table.to_string().lines().map(str::len).max();
        assert!(longest.is_some_and(|longest| longest <= 60), "{longest:?}");
    }
}
