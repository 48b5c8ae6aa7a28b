//! The server of the gateway's tests as a process of its own, for clients of other makes.
//!
//! `echo FOLDER` writes `FOLDER/api.pb` (the descriptors) and then `FOLDER/address` (where it listens), and serves until it is killed.

#![allow(clippy::unwrap_used, clippy::panic, dead_code)] // parts of the tests

#[path = "../src/testing/api.rs"]
mod api;
#[path = "../src/testing/server.rs"]
mod server;

use std::{fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("needs a folder")?;
    let folder = PathBuf::from(folder);
    fs::write(folder.join("api.pb"), api::descriptor_set())?;
    let server = server::Server::start("echo");
    // Whoever waits for the file finds all of it.
    let begun = folder.join("address.new");
    fs::write(&begun, server.address.to_string())?;
    fs::rename(begun, folder.join("address"))?;
    loop {
        std::thread::park();
    }
}
