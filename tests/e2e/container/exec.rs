//! Exec and attach, with and without a terminal.

use super::on_a_node;
use orch::api::cri::{ContainerRuntime, CriError, ExecRequest, TerminalSize};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn commands_run_in_the_container() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let id = node.start(&pod.id, &node.shell(&image, "main", "sleep 1000")).await;
        let output = node.exec(&id, "echo out; echo err >&2; echo $FROM; pwd; exit 9").await;
        assert_eq!(output.exit_code, 9);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\nimage\n/\n");
        assert_eq!(output.stderr, b"err\n");
        let begin = Instant::now();
        let command = ["/bin/sleep".to_owned(), "1000".to_owned()];
        let error =
            node.runtime.exec_sync(&id, &command, Duration::from_millis(200)).await.map(|_| ()).expect_err("too long");
        assert!(matches!(error, CriError::DeadlineExceeded(_)), "{error:?}");
        assert!(begin.elapsed() < Duration::from_secs(10));
        let deadline = Instant::now() + Duration::from_secs(10);
        while node.prints(&id, "ps -o args | grep -c '^/bin/[s]leep 1000' || true").await.trim() != "0" {
            assert!(Instant::now() < deadline, "a command that timed out is killed");
        }
        for (command, code) in [("absent", 127), ("/etc/passwd", 126)] {
            let error = node
                .runtime
                .exec_sync(&id, &[command.to_owned()], Duration::ZERO)
                .await
                .map(|_| ())
                .expect_err(command);
            let CriError::StartFailed { exit_code, .. } = error else { panic!("{error:?}") };
            assert_eq!(exit_code, code);
        }
        let begin = Instant::now();
        for _ in 0..20 {
            node.exec(&id, "true").await;
        }
        eprintln!("exec: {:?}", begin.elapsed() / 20);
    });
}

#[test]
fn streams_go_both_ways() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let id = node.start(&pod.id, &node.shell(&image, "main", "sleep 1000")).await;
        let request =
            ExecRequest { command: vec!["/bin/cat".into()], stdin: true, stdout: true, stderr: true, tty: false };
        let mut session = node.runtime.exec(&id, &request).await.expect("started");
        let mut stdin = session.stdin.take().expect("stdin");
        let payload = vec![b'x'; 300_000];
        let sent = payload.clone();
        let write = tokio::spawn(async move {
            stdin.write_all(&sent).await.expect("written");
            stdin.shutdown().await.expect("closed");
        });
        let mut received = Vec::new();
        session.stdout.take().expect("stdout").read_to_end(&mut received).await.expect("read");
        write.await.expect("done");
        assert_eq!(received, payload);
        assert_eq!(session.exit.await.expect("told").expect("ended"), 0);
    });
}

#[test]
fn a_terminal_has_a_size_and_hangs_up() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let id = node.start(&pod.id, &node.shell(&image, "main", "sleep 1000")).await;
        let request =
            ExecRequest { command: vec!["/bin/sh".into()], stdin: true, stdout: true, stderr: false, tty: true };
        let mut session = node.runtime.exec(&id, &request).await.expect("started");
        session.resize.send(TerminalSize { width: 101, height: 33 }).await.expect("sent");
        let mut stdin = session.stdin.take().expect("stdin");
        let mut stdout = session.stdout.take().expect("stdout");
        // The size travels by itself: ask until it is there.
        stdin
            .write_all(b"until [ \"$(stty size)\" = '33 101' ]; do sleep 0.01; done; tty; exit 4\n")
            .await
            .expect("written");
        let mut text = String::new();
        stdout.read_to_string(&mut text).await.expect("read");
        assert!(text.contains("/dev/pts/"), "{text}");
        assert_eq!(session.exit.await.expect("told").expect("ended"), 4);
    });
}

#[test]
fn attach_reads_and_writes_the_first_process() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let pod = node.start_pod("web").await;
        let mut config = node.shell(&image, "main", "while read line; do echo got $line; done; echo end; exit 6");
        config.stdin = true;
        config.stdin_once = true;
        let id = node.start(&pod.id, &config).await;
        let request = ExecRequest { stdin: true, stdout: true, stderr: true, ..ExecRequest::default() };
        let mut session = node.runtime.attach(&id, &request).await.expect("attached");
        let mut stdin = session.stdin.take().expect("stdin");
        stdin.write_all(b"one\ntwo\n").await.expect("written");
        drop(stdin);
        let mut text = String::new();
        session.stdout.take().expect("stdout").read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "got one\ngot two\nend\n");
        assert_eq!(session.exit.await.expect("told").expect("ended"), 6);
        assert_eq!(node.log("main"), ["stdout F got one", "stdout F got two", "stdout F end"], "the log has it too");

        let mut config = node.shell(&image, "tty", "tty; read line; echo got $line; stty size; exit 2");
        (config.stdin, config.tty) = (true, true);
        let id = node.start(&pod.id, &config).await;
        let request = ExecRequest { stdin: true, stdout: true, tty: true, ..ExecRequest::default() };
        let mut session = node.runtime.attach(&id, &request).await.expect("attached");
        session.resize.send(TerminalSize { width: 77, height: 22 }).await.expect("sent");
        session.stdin.take().expect("stdin").write_all(b"word\n").await.expect("written");
        assert_eq!(session.exit.await.expect("told").expect("ended"), 2);
        assert!(node.log("tty").iter().any(|line| line.trim_end() == "stdout F got word"), "{:?}", node.log("tty"));
    });
}
