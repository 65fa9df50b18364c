//! Cuts do what they say: one direction, connections old and new, and nothing left after healing.

use floeberg_test_chaos::lab::{self, Lab};
use floeberg_test_chaos::sandbox;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process on a node that asks other nodes when it is asked to.
struct Listener {
    child: Child,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PORT: u16 = 7000;
const PYTHON: &str = "import socket, sys
at = (sys.argv[1], 7000)  # PORT
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(at)
l = socket.create_server(at)
held = []
while True:
    d, who = s.recvfrom(100)
    if d[:4] == b'to: ':
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        c.bind((at[0], 0))
        c.settimeout(0.3)
        c.sendto(b'echo', (d[4:].decode(), 7000))
        try:
            s.sendto(c.recv(100), who)
        except OSError:
            s.sendto(b'nothing', who)
    elif d == b'echo':
        s.sendto(b'yes', who)
    elif d[:9] == b'connect: ':
        try:
            held.append(socket.create_connection((d[9:].decode(), 7000), 0.3))
            s.sendto(b'connected', who)
        except OSError:
            s.sendto(b'nothing', who)
";

fn listen(node: u8) -> Listener {
    let child = Command::new("nsenter")
        .arg(format!("--net=/run/netns/n{node}"))
        .args(["--", "python3", "-c", PYTHON])
        .arg(lab::address(node).to_string())
        .stdin(Stdio::null())
        .spawn()
        .expect("nsenter runs");
    Listener { child }
}

/// Asks a node, from beside the bridge, what it gets through to another.
fn ask(socket: &UdpSocket, node: u8, what: &str) -> String {
    let at = SocketAddr::from((lab::address(node), PORT));
    let mut buffer = [0; 100];
    // The listener may still be starting.
    for _ in 0..50 {
        socket
            .send_to(what.as_bytes(), at)
            .expect("the bridge is up");
        if let Ok(length) = socket.recv(&mut buffer) {
            return String::from_utf8_lossy(&buffer[..length]).into_owned();
        }
    }
    panic!("node {node} does not answer");
}

#[test]
fn cuts_are_one_way_and_heal() -> anyhow::Result<()> {
    if !sandbox::is_inside() {
        return match sandbox::is_possible() {
            Ok(()) => sandbox::run_test("cuts_are_one_way_and_heal"),
            Err(reason) => sandbox::skip(&reason),
        };
    }
    let lab = Lab::build(3)?;
    let listeners: Vec<Listener> = (1..=3).map(listen).collect();
    let socket = UdpSocket::bind("10.77.0.254:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    let reaches = |from: u8, to: u8| {
        let asked = format!("to: {}", lab::address(to));
        ask(&socket, from, &asked) == "yes"
    };
    let connects = |from: u8, to: u8| {
        let asked = format!("connect: {}", lab::address(to));
        ask(&socket, from, &asked) == "connected"
    };
    let pairs = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];
    let all = |what: &dyn Fn(u8, u8) -> bool| pairs.map(|(from, to)| what(from, to));
    assert_eq!(all(&reaches), [true; 6]);
    // An echo needs both ways, so a one-way cut ends it in both directions of asking ...
    lab.cut(1, 2)?;
    assert_eq!(all(&reaches), [false, false, true, true, true, true]);
    // ... but notes need one only.
    assert_eq!((arrives(1, 2), arrives(2, 1)), (false, true));
    lab.heal()?;
    assert_eq!(all(&reaches), [true; 6]);
    assert_eq!(all(&connects), [true; 6]);
    // The bridge: 1 and 3 do not see each other, 2 sees both; clients see all, as every question shows.
    lab.part(1, 3)?;
    assert_eq!(all(&connects), [true, true, false, false, true, true]);
    lab.heal()?;
    assert_eq!(all(&connects), [true; 6]);
    drop(listeners);
    Ok(())
}

/// Whether notes, which nobody answers, get from one node to another: only this way counts.
fn arrives(from: u8, to: u8) -> bool {
    let before = received(to);
    let script = format!(
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
         [s.sendto(b'note', ('{}', {PORT})) for _ in range(10)]",
        lab::address(to)
    );
    let sent = Command::new("nsenter")
        .arg(format!("--net=/run/netns/n{from}"))
        .args(["--", "python3", "-c", &script])
        .status()
        .expect("nsenter runs");
    assert!(sent.success());
    received(to) >= before + 10
}

/// Datagrams that a node's kernel has taken in.
fn received(node: u8) -> u64 {
    let done = Command::new("nsenter")
        .arg(format!("--net=/run/netns/n{node}"))
        .args(["--", "cat", "/proc/net/snmp"])
        .output()
        .expect("nsenter runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let values = text.lines().filter(|line| line.starts_with("Udp:")).nth(1);
    let count = values.and_then(|line| line.split_whitespace().nth(1));
    let count = count.and_then(|text| text.parse().ok());
    count.expect("/proc/net/snmp counts datagrams")
}
