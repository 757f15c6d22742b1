//! What a client sends after an upgrade: SPDY frames, and messages of a WebSocket.

use orch::net::streaming::socket::{Coding, Socket, inbox};
use orch::net::streaming::spdy::Session;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const IDLE: Duration = Duration::from_secs(1);

fn run(work: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(work);
}

/// The client's side: sends all of it, and reads what comes.
fn client(mut far: DuplexStream, data: &[u8]) -> tokio::task::JoinHandle<()> {
    let data = data.to_vec();
    tokio::spawn(async move {
        if far.write_all(&data).await.is_ok() && far.shutdown().await.is_ok() {
            let mut answer = Vec::new();
            // However it ends.
            let _ = far.read_to_end(&mut answer).await;
        }
    })
}

pub fn spdy(data: &[u8]) {
    run(async {
        let (near, far) = duplex(1 << 16);
        let client = client(far, data);
        let mut session = Session::start(near, IDLE);
        let mut readers = Vec::new();
        while let Some(new) = session.next().await {
            let mut stream = new.accept().await;
            readers.push(tokio::spawn(async move {
                let mut text = Vec::new();
                let _ = stream.read_to_end(&mut text).await;
            }));
        }
        session.close().await;
        for reader in readers {
            reader.await.expect("no panic");
        }
        client.await.expect("no panic");
    });
}

pub fn channels(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let coding = Coding { base64: first & 1 != 0, closes: first & 2 != 0, channels: first & 4 == 0 };
    run(async {
        let (near, far) = duplex(1 << 16);
        let client = client(far, data);
        let (sender, mut input) = inbox();
        let socket = Socket::start(near, coding, vec![Some(sender), None], IDLE).await;
        let mut text = Vec::new();
        let _ = input.read_to_end(&mut text).await;
        socket.close().await;
        client.await.expect("no panic");
    });
}
