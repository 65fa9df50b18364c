//! `floeberg config …`, and how every command reads a configuration file.

use crate::output::print_done;
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use floeberg_env::Env;
use floeberg_node::PortCertificate;
use floeberg_settings::{ClientTls, RootKeyProblem, Settings, example, root_key};
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with a configuration file
    Check {
        /// The file
        file: PathBuf,
        /// Do not look at the certificate and the keys it names: it is for another machine
        #[arg(long)]
        file_only: bool,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Print a configuration with every key, its meaning and its default
    Example,
}

/// A configuration file and what goes before it.
#[derive(Args, Clone)]
pub struct ConfigArguments {
    /// The configuration file; `floeberg config example` prints one
    #[arg(long, value_name = "FILE", env = "FLOEBERG_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Args, Clone)]
pub struct Overrides {
    /// Goes before the file, for example `--set peer.advertise=node1:7000`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    overrides: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "write KEY=VALUE, for example peer.advertise=node1:7000".to_owned())
}

impl ConfigArguments {
    /// Reads the file.
    pub fn load(&self) -> anyhow::Result<Settings> {
        load(&self.config, &self.overrides)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.config
    }
}

/// Reads a file, with what goes before it.
pub fn load(file: &Path, overrides: &Overrides) -> anyhow::Result<Settings> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the configuration {}", file.display()))?;
    Settings::parse(&text, &overrides.overrides)
        .map_err(|problems| anyhow!("{} is not usable\n{problems}", file.display()))
}

/// What the file names and this machine does not have in a usable form.
fn wrong_here(settings: &Settings) -> Vec<String> {
    let mut wrong = Vec::new();
    if let ClientTls::Files { cert, key } = &settings.tls {
        let files = PortCertificate {
            certificate: cert.clone(),
            key: key.clone(),
        };
        if let Err(error) = files.check(&Env::real()) {
            wrong.push(format!(
                "  tls.cert, tls.key: {:#}",
                anyhow::Error::from(error)
            ));
        }
    }
    let variable = |name: &str| std::env::var(name).ok();
    match root_key(variable, settings.keys_file.as_deref()) {
        // A service has an environment of its own.
        Ok(_) | Err(RootKeyProblem::Missing) => {}
        Err(error) => wrong.push(format!("  keys: {:#}", anyhow::Error::from(error))),
    }
    wrong
}

/// What is said if no root keys are here: a service may have them in an environment of its own.
fn without_keys(settings: &Settings) -> &'static str {
    let variable = |name: &str| std::env::var(name).ok();
    match root_key(variable, settings.keys_file.as_deref()) {
        Err(RootKeyProblem::Missing) => {
            "\nthere are no root keys here: the service needs FLOEBERG_ROOT_ACCESS_KEY and \
             FLOEBERG_ROOT_SECRET_KEY in its environment, or a file in keys.file"
        }
        Ok(_) | Err(_) => "",
    }
}

pub fn run(command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check {
            file,
            file_only,
            overrides,
        } => {
            let settings = load(file, overrides)?;
            let wrong = match file_only {
                true => Vec::new(),
                false => wrong_here(&settings),
            };
            if !wrong.is_empty() {
                bail!(
                    "{} is not usable here\n{}",
                    file.display(),
                    wrong.join("\n")
                );
            }
            let without = match file_only {
                true => "",
                false => without_keys(&settings),
            };
            print_done(false, &format!("{} is usable{without}", file.display()))?;
        }
        ConfigCommand::Example => write!(std::io::stdout().lock(), "{}", example())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked_with_its_overrides() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floeberg.toml");
        std::fs::write(&file, example()).unwrap();
        let overrides = |texts: &[&str]| Overrides {
            overrides: texts.iter().map(|t| pair(t).unwrap()).collect(),
        };
        let look = |file_only, texts: &[&str]| {
            run(&ConfigCommand::Check {
                file: file.clone(),
                file_only,
                overrides: overrides(texts),
            })
        };
        let check = |texts: &[&str]| look(true, texts);
        check(&[]).unwrap();
        let here = look(false, &["tls.cert=/nope/chain.pem"]).unwrap_err();
        assert!(here.to_string().contains("/nope/chain.pem"), "{here}");
        check(&["peer.advertise=n2:7000", "labels.zone = hall-2"]).unwrap();
        let error = check(&["peer.advertise=n2"]).unwrap_err().to_string();
        assert!(error.contains("--set: peer.advertise = n2: "), "{error}");
        assert!(pair("peer.advertise").is_err());
        let absent = dir.path().join("absent.toml");
        let error = load(&absent, &overrides(&[])).unwrap_err().to_string();
        assert!(error.contains("absent.toml"), "{error}");
    }
}
