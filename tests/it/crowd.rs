//! Very many clients of one process.

use std::time::Instant;

use crate::process::{Crowd, PATIENCE, Server, listen_drops, raise_open_file_limit, resident_bytes, serve};

/// Connects `clients`, each with a name, two tags and two topics, and publishes to them.
fn a_crowd_of(clients: usize) -> u64 {
    let server = Server::launch(serve(&["--listen", "127.0.0.1:0,127.0.0.2:0"]));
    // What the first client and the first event cost is not the crowd's.
    server.stream("topics=first");
    server.publish("first", "warm");
    let before = (listen_drops(), resident_bytes(server.pid()));

    let mut crowd = Crowd::new();
    let began = Instant::now();
    for number in 0..clients {
        let address = server.addresses[number % server.addresses.len()];
        let group = number % 100;
        let query = format!("client_name=client-{number}&tags=crowd,group-{group}&topics=news,group:{group}");
        crowd.connect(address, &query);
    }
    let connected = began.elapsed();
    crowd.everybody_is_greeted(PATIENCE);
    let greeted = began.elapsed();
    server.wait_for_streams(clients as u64);
    let each = resident_bytes(server.pid()).saturating_sub(before.1) / clients as u64;

    let id = server.publish("news", "to all");
    let all =
        crowd.everybody_gets(PATIENCE, "the news", |event| event.data == "to all" && event.id.as_ref() == Some(&id));
    for group in 0..100 {
        server.publish(&format!("group:{group}"), "to a group");
    }
    let groups = crowd.everybody_gets(PATIENCE, "its group's event", |event| event.data == "to a group");
    assert_eq!(listen_drops(), before.0, "the kernel refused connections");
    assert_eq!(crowd.open(), clients);
    eprintln!(
        "{clients} clients: connected within {connected:?}, greeted within {greeted:?}, {each} bytes each; \
         an event for all took {all:?}, one for each of 100 groups {groups:?}"
    );
    each
}

#[test]
fn five_hundred_clients_connect_and_receive() {
    a_crowd_of(500);
}

#[test]
#[ignore = "needs 20,000 open files and a minute; run scripts/test"]
fn fifteen_thousand_clients_connect_and_receive_for_one_and_a_half_kilobytes_each() {
    raise_open_file_limit(15_500);
    let each = a_crowd_of(15_000);
    // A debug build's futures are larger.
    assert!(each <= 1536 || cfg!(debug_assertions), "{each} bytes for each client");
}
