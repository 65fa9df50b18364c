//! Where one node of a [`Fleet`](crate::fleet::Fleet) lives: its directory, its ports, its configuration.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use tokio::process::Child;

/// Where one node lives.
#[derive(Debug)]
pub(crate) struct Seat {
    home: PathBuf,
    /// Of the lakehouse, of S3, of the other members.
    pub(crate) ports: [u16; 3],
    pub(crate) starts: u32,
    pub(crate) running: Option<Child>,
}

impl Seat {
    pub(crate) fn new(home: PathBuf) -> anyhow::Result<Self> {
        // All are held until each has its own; somebody else may take one before the node does, and
        // the node says so then.
        let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let held = [any()?, any()?, any()?];
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&held) {
            *port = listener.local_addr()?.port();
        }
        let seat = Self {
            home,
            ports,
            starts: 0,
            running: None,
        };
        seat.write_config("")?;
        Ok(seat)
    }

    /// Writes the configuration anew; `more` is TOML that goes below what every node has.
    pub(crate) fn write_config(&self, more: &str) -> anyhow::Result<()> {
        fs::create_dir_all(&self.home)?;
        let [lakehouse, s3, peer] = self.ports;
        let data = self.data();
        let text = format!(
            "[data]\n\
             dir = {data:?}\n\
             [peer]\n\
             listen = \"127.0.0.1:{peer}\"\n\
             [lakehouse]\n\
             listen = \"127.0.0.1:{lakehouse}\"\n\
             [s3]\n\
             listen = \"127.0.0.1:{s3}\"\n\
             [tls]\n\
             plain = \"loopback\"\n\
             [limits]\n\
             volume_segment = \"64 MiB\"\n\
             notice = \"300ms\"\n\
             [log]\n\
             filter = \"warn,floeberg=info\"\n\
             format = \"json\"\n\
             {more}\n"
        );
        Ok(fs::write(self.config(), text)?)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.join("floeberg.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.join(format!("log-{}", self.starts))
    }
}
